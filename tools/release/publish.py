"""Images and charts of a release, pushed to a registry. build/release.json keeps what was pushed.

The registry is `ghcr.io/…` for GitHub's release and one on loopback for its rehearsal, which differs in two things
only: it speaks plain HTTP, and a key signs instead of the identity of the workflow (tools.release.signing).
"""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run, step
from tools.cluster.images import PRODUCTS, SOURCE_DATE_EPOCH, Image, push_from_buildah
from tools.cluster.preflight import docker_answers
from tools.cluster.programs import find
from tools.release.checks import pinned

# The umbrella stays out: its dependency is another project's package. The MLflow chart is whole by itself.
CHARTS = (ROOT / "charts" / "model-service", ROOT / "charts" / "observability" / "charts" / "mlflow")
RECORD = ROOT / "build" / "release.json"
PLATFORMS = "linux/amd64,linux/arm64"


@dataclass(frozen=True)
class Registry:
    """Where to push to, and how what is there is signed."""

    prefix: str  # ghcr.io/owner/name
    key: Path | None = None  # the private key next to its .pub; without it, the workflow's identity signs

    @property
    def local(self) -> bool:
        """Whether it is on loopback, where there is no TLS."""
        return self.prefix.startswith("127.0.0.1:")


def push_images(registry: Registry, version: str, revision: str, images: Sequence[Image] = PRODUCTS) -> list[str]:
    """Push the images and return their references by digest."""
    pushed = []
    for image in images:
        target = f"{registry.prefix}/{image.name}"
        with step(f"push {target}:{version}"):
            push = _push_with_buildx if docker_answers() else push_from_buildah
            pushed.append(pinned(f"{target}@{push(image, f'{target}:{version}', revision)}"))
    return pushed


def _push_with_buildx(image: Image, target: str, revision: str) -> str:
    """Build for every platform, push with SBOM and provenance, and return the index's digest."""
    with tempfile.TemporaryDirectory() as work:
        metadata = Path(work) / "metadata.json"
        command = ["docker", "buildx", "build", "--platform", PLATFORMS, "--sbom=true"]
        command += ["--output", "type=image,push=true,rewrite-timestamp=true"]
        command += ["--build-arg", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"]
        command += ["--provenance=mode=max", "--metadata-file", str(metadata), "--tag", target]
        repository = os.environ.get("GITHUB_REPOSITORY", "model-service/model-service")
        labels = {"version": target.rpartition(":")[2], "source": f"https://github.com/{repository}"}
        for name, value in labels.items():
            command += ["--label", f"org.opencontainers.image.{name}={value}"]
        command += ["--build-arg", f"GIT_COMMIT={revision}", "--file", str(image.dockerfile), str(ROOT)]
        run(command, timeout_seconds=5400, remedy="Is `docker login` done? Run the same verb again: layers are kept.")
        return str(json.loads(metadata.read_text())["containerimage.digest"])


def push_charts(registry: Registry, version: str, charts: Sequence[Path] = CHARTS) -> list[str]:
    """Package the charts under a version, push them, and return their references by digest."""
    pushed = []
    for chart in charts:
        with step(f"push chart {chart.name} {version}"), tempfile.TemporaryDirectory() as work:
            helm = find("helm")
            run([helm, "package", chart, "--version", version, "--app-version", version, "--destination", work])
            command = [helm, "push", next(Path(work).glob("*.tgz")), f"oci://{registry.prefix}/charts"]
            remedy = "Is `docker login` done, and does the registry answer? Nothing is signed before all is pushed."
            log = Path(work) / "push.log"  # Helm prints the digest on standard error
            run([*command, *(["--plain-http"] if registry.local else [])], log=log, remedy=remedy)
            digest = re.search(r"Digest: +(sha256:[0-9a-f]{64})", log.read_text())
            pushed.append(pinned(f"{registry.prefix}/charts/{chart.name}@{digest[1] if digest else ''}"))
    return pushed


def record(**found: object) -> None:
    """Add what was pushed to build/release.json, and to the job's outputs on GitHub."""
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps({**recorded(missing_is_empty=True), **found}, indent=2) + "\n")
    if os.environ.get("GITHUB_OUTPUT"):
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
            outputs.writelines(f"{name}={json.dumps(value)}\n" for name, value in found.items())


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
