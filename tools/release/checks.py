"""Conditions of a release: one version everywhere, a matching tag, a clean tree and release notes."""

import re
import tomllib

import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run

CHARTS = ("charts/model-service", "charts/observability/charts/mlflow", "charts/observability")
PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def project_version() -> str:
    """Return the version that everything else follows."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def release_version(tag: str, commit: str) -> str:
    """Return the version to publish: that of a tag, or a pre-release of the next one, named by its commit.

    Args:
        tag: `v1.2.3`, or "" on a branch.
        commit: the whole hash.

    Raises:
        Failure: the tag is not that of the version in pyproject.toml.
    """
    version = project_version()
    if not tag:
        return f"{version}-main.g{commit[:12]}"  # the g: a number must not start with 0 in a semantic version
    if tag != f"v{version}":
        raise Failure(f"Tag {tag} does not match version {version} of pyproject.toml. Tag the commit as v{version}.")
    return version


def check(tag: str) -> None:
    """Refuse to release what nobody could build again or would know the version of.

    Raises:
        Failure: the tree is dirty, a chart has another version, or a tag has no notes.
    """
    dirty = run(["git", "-C", ROOT, "status", "--porcelain"]).strip()
    if dirty:
        raise Failure(
            f"The work tree differs from its commit ({dirty.splitlines()[0].strip()}, …). Commit or stash it."
        )
    version = project_version()
    for chart in CHARTS:
        found = yaml.safe_load((ROOT / chart / "Chart.yaml").read_text())["version"]
        if found != version:
            raise Failure(f"{chart}/Chart.yaml has version {found}, pyproject.toml has {version}. Make them equal.")
    release_version(tag, commit())
    if tag:
        notes(version)


def commit() -> str:
    """Return the commit that is checked out."""
    return run(["git", "-C", ROOT, "rev-parse", "HEAD"]).strip()


def notes(version: str, changelog: str | None = None) -> str:
    """Return the changelog's section of a version, without its heading.

    Raises:
        Failure: it has none, or an empty one.
    """
    text = (ROOT / "CHANGELOG.md").read_text() if changelog is None else changelog
    found = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|^\[[^\]]+\]:|\Z)", text, re.M | re.S)
    if not found or not found[1].strip():
        raise Failure(f"CHANGELOG.md has no section [{version}]. Rename [Unreleased] to it, with the date.")
    return found[1].strip() + "\n"


def pinned(reference: str) -> str:
    """Return a reference that names the object by its digest.

    Raises:
        Failure: it has no digest.
    """
    if not PINNED.fullmatch(reference):
        raise Failure(f"{reference} has no digest, so it may be another image tomorrow. Name it as …@sha256:….")
    return reference
