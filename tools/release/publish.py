"""Images and charts of a release, pushed to a registry. build/release keeps what was pushed and the files of its page.

The registry is `ghcr.io/…` for GitHub's release and one on loopback for its rehearsal, which differs in two things
only: it speaks plain HTTP, and a key signs instead of the identity of the workflow (tools.release.signing).
"""

import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run, step
from tools.cluster.images import PRODUCTS, SOURCE_DATE_EPOCH, Image, push_from_buildah
from tools.cluster.preflight import docker_answers
from tools.cluster.programs import find
from tools.release import oci
from tools.release.checks import pinned
from tools.release.oci import Registry, Repository
from tools.release.packaging import package

# The umbrella stays out: its dependency is another project's package. The MLflow chart is whole by itself.
CHARTS = (ROOT / "charts" / "model-service", ROOT / "charts" / "observability" / "charts" / "mlflow")
FOLDER = ROOT / "build" / "release"
RECORD = FOLDER / "release.json"
BUILT = ROOT / "build" / "built"
ARCHITECTURES = ("amd64", "arm64")
_ARTIFACT_HUB = "application/vnd.cncf.artifacthub"
_SUFFIXES = {"https://spdx.dev/Document": "spdx.json", "https://slsa.dev/provenance": "intoto.jsonl"}


def architecture() -> str:
    """Return the architecture of this machine by its name in images."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def build_images(
    registry: Registry, version: str, commit: str, images: Sequence[Image] = PRODUCTS, *, folder: Path = BUILT
) -> dict[str, str]:
    """Build images for this machine's platform, push each by digest, and return and keep the references."""
    pushed = {}
    for image in images:
        target = f"{registry.prefix}/{image.name}"
        with step(f"push {target} for {architecture()}"):
            if docker_answers():
                digest = _push_with_buildx(image, target, version, commit)
            else:
                digest = push_from_buildah(image, f"{target}:{image.tag}", commit)
            pushed[image.name] = pinned(f"{target}@{digest}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{architecture()}.json").write_text(json.dumps(pushed, indent=2) + "\n")
    return pushed


def _push_with_buildx(image: Image, target: str, version: str, commit: str) -> str:
    """Build for this platform, push by digest with SBOM and provenance, and return the digest."""
    with tempfile.TemporaryDirectory() as work:
        metadata = Path(work) / "metadata.json"
        command = ["docker", "buildx", "build", "--sbom=true", "--provenance=mode=max"]
        output = f"type=image,name={target},push=true,push-by-digest=true,name-canonical=true,rewrite-timestamp=true"
        command += ["--output", output, "--metadata-file", str(metadata)]
        cache = f"{target}:cache-{architecture()}"
        command += [f"--cache-from=type=registry,ref={cache}", f"--cache-to=type=registry,ref={cache},mode=max"]
        command += ["--build-arg", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"]
        repository = os.environ.get("GITHUB_REPOSITORY", "model-service/model-service")
        labels = {"version": version, "source": f"https://github.com/{repository}"}
        for name, value in labels.items():
            command += ["--label", f"org.opencontainers.image.{name}={value}"]
        command += ["--build-arg", f"GIT_COMMIT={commit}", "--file", str(image.dockerfile), str(ROOT)]
        run(command, timeout_seconds=3000, remedy="Is `docker login` done? Run the same verb again: layers are kept.")
        return str(json.loads(metadata.read_text())["containerimage.digest"])


def built(folder: Path = BUILT) -> dict[str, dict[str, str]]:
    """Return the references that were pushed for each architecture, by the image's name."""
    return {path.stem: dict(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))}


def combine_images(
    registry: Registry, version: str, commit: str, *, parts: Mapping[str, Mapping[str, str]], folder: Path = FOLDER
) -> list[str]:
    """Push an index of the platforms of each image, without a tag, and return the references.

    The statements of BuildKit, SBOM and provenance, are written to the folder.

    Raises:
        Failure: A platform was not built, or the version is published from a different commit.
    """
    missing = [] if registry.local else [name for name in ARCHITECTURES if name not in parts]
    if missing or not parts:
        raise Failure(f"No images were built for {', '.join(missing) or 'any platform'}. Run make release-build there.")
    folder.mkdir(parents=True, exist_ok=True)
    pushed = []
    for name in next(iter(parts.values())):
        repository = Repository(f"{registry.prefix}/{name}")
        with step(f"combine {repository.name} of {', '.join(parts)}"):
            index = published(repository, version, commit)
            if index is None:
                index = oci.index_of(repository, [part[name].partition("@")[2] for part in parts.values()])
                repository.put(index)
            for (platform_name, predicate), statement in oci.attestations(repository, index).items():
                [suffix] = [suffix for start, suffix in _SUFFIXES.items() if predicate.startswith(start)]
                text = json.dumps(statement["predicate"] if suffix == "spdx.json" else statement)
                (folder / f"{name}-{version}-{platform_name}.{suffix}").write_text(f"{text}\n")
        pushed.append(pinned(f"{repository.name}@{index.digest}"))
    return pushed


def published(repository: Repository, version: str, commit: str) -> oci.Manifest | None:
    """Return what a version of a repository is, or None if it is not published: a version never changes.

    Raises:
        Failure: The version was made from a different commit.
    """
    found = repository.manifest(version)
    if found is None:
        return None
    made = oci.revision(repository, found)
    if made != commit:
        raise Failure(
            f"{repository.name}:{version} is already published, from commit {made or 'unknown'}. "
            "A published version is never overwritten. Raise the version in pyproject.toml and the charts."
        )
    return found


def tag_images(references: Sequence[str], version: str) -> None:
    """Give the version's tag to images that were pushed by digest."""
    for reference in references:
        name, _, digest = pinned(reference).partition("@")
        with step(f"tag {name}:{version}"):
            repository = Repository(name)
            repository.put(repository.existing(digest), version)


def push_charts(
    registry: Registry,
    version: str,
    commit: str,
    images: Sequence[str],
    charts: Sequence[Path] = CHARTS,
    *,
    folder: Path = FOLDER,
) -> list[str]:
    """Package the charts under a version, push them, and return their references by digest.

    Args:
        registry: Where to.
        version: Of the charts and of the images in them.
        commit: What they are made from.
        images: References of the release's images by digest, which replace those in the charts.
        charts: The folders of the charts.
        folder: Keeps the packages, for the release's page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pushed = []
    by_name = {reference.partition("@")[0].rpartition("/")[2]: reference for reference in images}
    for chart in charts:
        repository = Repository(f"{registry.prefix}/charts/{chart.name}")
        with step(f"push chart {chart.name} {version}"):
            existing = published(repository, version, commit)
            packed = package(chart, version, commit, by_name, folder)
            digest = existing.digest if existing else _push_chart(registry, packed)
            if existing:  # the page gets the published bytes; a second package differs in its dates
                packed.write_bytes(repository.blob(existing.document["layers"][0]["digest"]))
            pushed.append(pinned(f"{repository.name}@{digest}"))
    return pushed


def _push_chart(registry: Registry, packed: Path) -> str:
    with tempfile.TemporaryDirectory() as work:
        command = [find("helm"), "push", packed, f"oci://{registry.prefix}/charts"]
        remedy = "Is `docker login` done, and does the registry answer? Nothing is signed before all is pushed."
        log = Path(work) / "push.log"  # Helm prints the digest on standard error
        run([*command, *(["--plain-http"] if registry.local else [])], log=log, remedy=remedy)
        digest = re.search(r"Digest: +(sha256:[0-9a-f]{64})", log.read_text())
        return digest[1] if digest else ""


def push_metadata(references: Sequence[str]) -> None:
    """Store what Artifact Hub reads about the repository of each chart, under the tag that it expects."""
    content = (ROOT / "charts" / "artifacthub-repo.yml").read_bytes()
    for reference in references:
        repository = Repository(pinned(reference).partition("@")[0])
        with step(f"describe {repository.name} for Artifact Hub"):
            layer = repository.put_blob(content, f"{_ARTIFACT_HUB}.repository-metadata.layer.v1.yaml")
            layer["annotations"] = {"org.opencontainers.image.title": "artifacthub-repo.yml"}
            config = repository.put_blob(b"{}", f"{_ARTIFACT_HUB}.config.v1+yaml")
            document = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config, "layers": [layer]}
            repository.put(oci.Manifest(oci.MANIFEST, json.dumps(document).encode()), "artifacthub.io")


def files(folder: Path = FOLDER) -> list[Path]:
    """Return the files of the release's page: chart packages, SBOMs and provenance, without their signatures."""
    return sorted(path for path in folder.glob("*") if path.name.endswith((".tgz", ".spdx.json", ".intoto.jsonl")))


def record(**found: object) -> None:
    """Add what was pushed to build/release/release.json."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({**recorded(missing_is_empty=True), **found}, indent=2) + "\n")


def output(values: Mapping[str, str]) -> None:
    """Set outputs of the step on GitHub, and print them."""
    lines = [f"{name}={value}\n" for name, value in values.items()]
    print("".join(lines), end="")
    if os.environ.get("GITHUB_OUTPUT"):
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
            outputs.writelines(lines)


def recorded(*, missing_is_empty: bool = False) -> dict[str, list[str]]:
    """Return what was pushed.

    Raises:
        Failure: Nothing was pushed.
    """
    if RECORD.exists():
        return dict(json.loads(RECORD.read_text()))
    if missing_is_empty:
        return {}
    raise Failure(f"{RECORD} does not exist: nothing was pushed yet. Run make release-images and make release-charts.")
