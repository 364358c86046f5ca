"""Signatures and SBOMs of a release by cosign: with the workflow's identity, or with the key of a rehearsal."""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.cluster.console import run, step
from tools.cluster.programs import delivery
from tools.release.checks import pinned
from tools.release.oci import Registry

ISSUER = "https://token.actions.githubusercontent.com"


def cosign() -> Path:
    """Return the program: the one on PATH, else the one of tools/release/cosign."""
    on_path = shutil.which("cosign")
    return Path(on_path) if on_path else delivery() / "cosign"


def sign(registry: Registry, references: Sequence[str]) -> None:
    """Sign each reference with the identity of the workflow, or with the registry's key and no transparency log."""
    with tempfile.TemporaryDirectory() as work:
        options = _signing(registry, Path(work))
        for reference in references:
            with step(f"sign {reference}"):
                run([cosign(), "sign", *options, pinned(reference)], env=_environment())


def sign_files(registry: Registry, files: Sequence[Path]) -> None:
    """Sign each file: its signature and certificate are written next to it, as `.sigstore.json`."""
    with tempfile.TemporaryDirectory() as work:
        options = [option for option in _signing(registry, Path(work)) if option not in _plain(registry)]
        for file in files:
            with step(f"sign {file.name}"):
                run([cosign(), "sign-blob", *options, "--bundle", _bundle(file), file], env=_environment())


def verify_files(registry: Registry, files: Sequence[Path]) -> None:
    """Check that this project signed each file.

    Raises:
        Failure: A file is not signed, or differs from what was signed.
    """
    options = [option for option in _trusting(registry) if option not in _plain(registry)]
    for file in files:
        with step(f"verify {file.name}"):
            remedy = f"{file.name} is not signed by this project: do not use it."
            command = [cosign(), "verify-blob", *options, "--bundle", _bundle(file), file]
            run(command, env=_environment(), remedy=remedy)


def _bundle(file: Path) -> Path:
    return file.with_name(f"{file.name}.sigstore.json")


def attest(registry: Registry, references: Sequence[str]) -> None:
    """Write the SBOM of each image with syft and store it, signed, next to the image. buildx does this by itself."""
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
    """Return the signed SBOM of an image.

    Raises:
        Failure: The image has no SBOM, or one that this project did not sign.
    """
    remedy = f"{reference} has no SBOM that this project signed: do not deploy it."
    command = [cosign(), "verify-attestation", *_trusting(registry), "--type", "spdxjson", pinned(reference)]
    envelope = json.loads(run(command, env=_environment(), remedy=remedy).splitlines()[0])
    return dict(json.loads(base64.b64decode(envelope["payload"]))["predicate"])


def verify(registry: Registry, references: Sequence[str]) -> None:
    """Check that this project signed each reference.

    Raises:
        Failure: A reference is not signed; the message names the first.
    """
    for reference in references:
        with step(f"verify {reference}"):
            remedy = f"{reference} is not signed by this project: do not deploy it."
            run([cosign(), "verify", *_trusting(registry), pinned(reference)], env=_environment(), remedy=remedy)


def _signing(registry: Registry, work: Path) -> list[str]:
    options = ["--yes", *_plain(registry)]
    if registry.key:
        offline = work / "signing-config.json"  # without a transparency log
        offline.write_text(run([cosign(), "signing-config", "create"]))
        options += ["--key", str(registry.key), "--signing-config", str(offline)]
    return options


def _trusting(registry: Registry) -> list[str]:
    options = _plain(registry)
    if registry.key:
        return [*options, "--key", str(registry.key.with_suffix(".pub")), "--insecure-ignore-tlog=true"]
    repository = os.environ.get("GITHUB_REPOSITORY", "model-service/model-service")
    workflow = f"https://github.com/{repository}/.github/workflows/release.yaml@{os.environ.get('GITHUB_REF', '')}"
    return [*options, "--certificate-oidc-issuer", ISSUER, "--certificate-identity", workflow]


def _plain(registry: Registry) -> list[str]:
    return ["--allow-http-registry"] if registry.local else []


def _environment() -> dict[str, str]:
    return {"COSIGN_PASSWORD": "", **os.environ}  # a throw-away key has none
