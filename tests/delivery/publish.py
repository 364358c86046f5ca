"""Push images and charts to a registry, sign them, verify them. What was pushed is kept in build/release.json.

The registry is `ghcr.io/…` for GitHub's release and one on loopback for its rehearsal, which differs in two things
only: it speaks plain HTTP, and a key signs instead of the identity of the workflow.
"""

import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.cache import ROOT
from tests.cluster.console import Failure, run, step
from tests.cluster.images import PRODUCTS, SOURCE_DATE_EPOCH, Image, push_from_buildah
from tests.cluster.preflight import docker_answers
from tests.cluster.programs import delivery, find
from tests.delivery.checks import pinned

# The umbrella stays out: its dependency is another project's package. The MLflow chart is whole by itself.
CHARTS = (ROOT / "charts" / "model-service", ROOT / "charts" / "observability" / "charts" / "mlflow")
RECORD = ROOT / "build" / "release.json"
ISSUER = "https://token.actions.githubusercontent.com"
PLATFORMS = "linux/amd64,linux/arm64"


@dataclass(frozen=True)
class Registry:
    """Where to push to, and how what is there is signed."""

    prefix: str  # ghcr.io/owner/name
    key: Path | None = None  # the private key beside its .pub; without it, the workflow's identity signs

    @property
    def local(self) -> bool:
        """Whether it is on loopback, where there is no TLS."""
        return self.prefix.startswith("127.0.0.1:")


def cosign() -> Path:
    """Return the program: the one on PATH, else the one of tests/delivery/cosign."""
    on_path = shutil.which("cosign")
    return Path(on_path) if on_path else delivery() / "cosign"


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
        command += ["--build-arg", f"GIT_COMMIT={revision}", "--file", str(image.dockerfile), str(image.context)]
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
            log = Path(work) / "push.log"  # Helm says the digest on standard error
            run([*command, *_plain(registry, "--plain-http")], log=log, remedy=remedy)
            digest = re.search(r"Digest: +(sha256:[0-9a-f]{64})", log.read_text())
            pushed.append(pinned(f"{registry.prefix}/charts/{chart.name}@{digest[1] if digest else ''}"))
    return pushed


def sign(registry: Registry, references: Sequence[str]) -> None:
    """Sign each: by the workflow's identity, or with the registry's key and no transparency log."""
    with tempfile.TemporaryDirectory() as work:
        options = _signing(registry, Path(work))
        for reference in references:
            with step(f"sign {reference}"):
                run([cosign(), "sign", *options, pinned(reference)], env=_environment())


def attest(registry: Registry, references: Sequence[str]) -> None:
    """Let syft write each image's SBOM, and put it beside the image, signed. buildx does this by itself."""
    env = {**_environment(), "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    if registry.local:
        env["SYFT_REGISTRY_INSECURE_USE_HTTP"] = "true"
    with tempfile.TemporaryDirectory() as work:
        sbom, options = Path(work) / "sbom.json", _signing(registry, Path(work))
        for reference in references:
            with step(f"describe {reference}"):
                run([delivery() / "syft", f"registry:{pinned(reference)}", "--output", f"spdx-json={sbom}"], env=env)
                command = [cosign(), "attest", *options, "--type", "spdxjson", "--predicate", sbom, reference]
                run(command, env=env)


def sbom(registry: Registry, reference: str) -> dict[str, Any]:
    """Return an image's SBOM, as it was signed.

    Raises:
        Failure: it has none, or one that we did not sign.
    """
    remedy = f"{reference} has no SBOM that this project signed: do not deploy it."
    command = [cosign(), "verify-attestation", *_trusting(registry), "--type", "spdxjson", pinned(reference)]
    envelope = json.loads(run(command, env=_environment(), remedy=remedy).splitlines()[0])
    return dict(json.loads(base64.b64decode(envelope["payload"]))["predicate"])


def _signing(registry: Registry, work: Path) -> list[str]:
    options = ["--yes", *_plain(registry, "--allow-http-registry")]
    if registry.key:
        offline = work / "signing-config.json"  # without a transparency log
        offline.write_text(run([cosign(), "signing-config", "create"]))
        options += ["--key", str(registry.key), "--signing-config", str(offline)]
    return options


def verify(registry: Registry, references: Sequence[str]) -> None:
    """Refuse what is not signed by us.

    Raises:
        Failure: names the first that is not.
    """
    for reference in references:
        with step(f"verify {reference}"):
            remedy = f"{reference} is not signed by this project: do not deploy it."
            run([cosign(), "verify", *_trusting(registry), pinned(reference)], env=_environment(), remedy=remedy)


def _trusting(registry: Registry) -> list[str]:
    options = _plain(registry, "--allow-http-registry")
    if registry.key:
        return [*options, "--key", str(registry.key.with_suffix(".pub")), "--insecure-ignore-tlog=true"]
    repository = os.environ.get("GITHUB_REPOSITORY", "model-service/model-service")
    workflow = f"https://github.com/{repository}/.github/workflows/release.yaml@{os.environ.get('GITHUB_REF', '')}"
    return [*options, "--certificate-oidc-issuer", ISSUER, "--certificate-identity", workflow]


def _plain(registry: Registry, option: str) -> list[str]:
    return [option] if registry.local else []


def _environment() -> dict[str, str]:
    return {"COSIGN_PASSWORD": "", **os.environ}  # a throw-away key has none


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
        Failure: nothing was.
    """
    if RECORD.exists():
        return dict(json.loads(RECORD.read_text()))
    if missing_is_empty:
        return {}
    raise Failure(f"{RECORD} is not there: nothing was pushed yet. Run make release-images and make release-charts.")
