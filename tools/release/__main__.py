"""`python -m tools.release VERB`: what `make release-VERB` and the workflows call."""

import argparse
import os
import re
import sys
from pathlib import Path

from tools.cluster.console import Failure, run, say
from tools.release import audit, checks, deploy, publish, signing


def _registry() -> publish.Registry:
    prefix, key = os.environ.get("RELEASE_REGISTRY", ""), os.environ.get("RELEASE_KEY")
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+", prefix):
        raise Failure(
            f"RELEASE_REGISTRY={prefix} is not a registry with a path. Set it, for example to ghcr.io/owner/name."
        )
    return publish.Registry(prefix, Path(key) if key else None)


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
    audit.audit(audit.locked())


def images() -> None:
    """Build and push the images."""
    checks.check(_tag())
    revision = checks.commit()
    publish.record(images=publish.push_images(_registry(), checks.release_version(_tag(), revision), revision))


def charts() -> None:
    """Package and push the charts."""
    checks.check(_tag())
    publish.record(charts=publish.push_charts(_registry(), checks.release_version(_tag(), checks.commit())))


def sign() -> None:
    """Sign what was pushed."""
    signing.sign(_registry(), _pushed())


def verify() -> None:
    """Verify the signatures of what was pushed."""
    signing.verify(_registry(), _pushed())


def roll_out() -> None:
    """Upgrade the environment's release."""
    found = publish.recorded()
    deploy.deploy(_registry(), found.get("images", []), found.get("charts", []), os.environ)


def notes() -> None:
    """Print the changelog's section of the version."""
    say(checks.notes(checks.project_version()))


def announce() -> None:
    """Make the release's page on GitHub."""
    tag = f"v{checks.project_version()}"
    text = checks.notes(checks.project_version())
    run(["gh", "release", "create", tag, "--verify-tag", "--title", tag, "--notes-file", "-"], stdin=text)


VERBS = {
    "check": check, "audit": ask, "images": images, "charts": charts, "sign": sign, "verify": verify,
    "deploy": roll_out, "notes": notes, "announce": announce,
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
