"""`python -m tools.release VERB`: what `make release-VERB` and the workflows call."""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.cluster.console import Failure, run, say
from tools.release import audit, checks, deploy, publish, signing
from tools.release.oci import Registry


def release_registry(environment: Mapping[str, str]) -> Registry:
    """Return the registry that RELEASE_REGISTRY names; names on GitHub may have capital letters, registries not.

    Raises:
        Failure: It is not a host with a path.
    """
    prefix, key = environment.get("RELEASE_REGISTRY", "").lower(), environment.get("RELEASE_KEY")
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+", prefix):
        raise Failure(
            f"RELEASE_REGISTRY={prefix} is not a registry with a path. Set it, for example to ghcr.io/owner/name."
        )
    return Registry(prefix, Path(key) if key else None)


def _registry() -> Registry:
    return release_registry(os.environ)


def _tag() -> str:
    reference = os.environ.get("GITHUB_REF", "")
    return reference.removeprefix("refs/tags/") if reference.startswith("refs/tags/") else ""


def _pushed() -> list[str]:
    found = publish.recorded()
    return [reference for kind in ("images", "charts") for reference in found.get(kind, [])]


def check() -> None:
    """Check version, tag, changelog and work tree."""
    checks.check(_tag())


def ask() -> None:
    """Ask what is known against the packages of the lock."""
    audit.audit(audit.locked(), accepted=audit.exceptions())


def _version() -> str:
    return checks.release_version(_tag(), checks.commit())


def build() -> None:
    """Build the images for this platform and push them by digest."""
    checks.check(_tag())
    publish.build_images(_registry(), _version(), checks.commit())


def built() -> None:
    """Print the images that were built for this platform; on GitHub they become outputs."""
    parts = publish.built()
    if publish.architecture() not in parts:
        raise Failure(f"No images were built for {publish.architecture()}. Run make release-build.")
    publish.output(parts[publish.architecture()])


def images() -> None:
    """Combine the platforms of each image."""
    checks.check(_tag())
    publish.record(images=publish.combine_images(_registry(), _version(), checks.commit(), parts=publish.built()))


def charts() -> None:
    """Package and push the charts."""
    checks.check(_tag())
    pushed = publish.recorded()["images"]
    publish.record(charts=publish.push_charts(_registry(), _version(), checks.commit(), pushed))


def sign() -> None:
    """Sign what was pushed and the files of the release's page."""
    signing.sign(_registry(), _pushed())
    signing.sign_files(_registry(), publish.files())


def verify() -> None:
    """Verify the signatures of what was pushed and of the files of the release's page."""
    signing.verify(_registry(), _pushed())
    signing.verify_files(_registry(), publish.files())


def tag() -> None:
    """Tag the images with the version, and describe the charts of a release for Artifact Hub."""
    publish.tag_images(publish.recorded()["images"], _version())
    if _tag():
        publish.push_metadata(publish.recorded()["charts"])


def roll_out() -> None:
    """Upgrade the environment's release."""
    found = publish.recorded()
    deploy.deploy(_registry(), found.get("images", []), found.get("charts", []), os.environ)


def notes() -> None:
    """Print the changelog's section of the version."""
    say(checks.notes(checks.project_version()))


def announce() -> None:
    """Make the release's page on GitHub with its files; if the page exists, replace both."""
    name = f"v{checks.project_version()}"
    text = checks.notes(checks.project_version())
    try:
        run(["gh", "release", "view", name])
        command = ["gh", "release", "edit", name]
    except Failure:
        command = ["gh", "release", "create", name, "--verify-tag"]
    run([*command, "--title", name, "--notes-file", "-"], stdin=text)
    attached = [each for file in publish.files() for each in (file, file.with_name(f"{file.name}.sigstore.json"))]
    run(["gh", "release", "upload", name, "--clobber", *attached])


VERBS = {
    "check": check, "audit": ask, "build": build, "built": built, "images": images, "charts": charts, "sign": sign,
    "verify": verify, "tag": tag, "deploy": roll_out, "notes": notes, "announce": announce,
}  # fmt: skip


def main() -> int:
    """Run one verb; a failure is one sentence, not a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("verb", choices=VERBS)
    try:
        VERBS[parser.parse_args().verb]()
    except Failure as failure:
        say(f"error: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
