"""Packages of the environment, compared with those that the model was logged with."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

REQUIREMENTS_FILE = "requirements.txt"
ABSENT = "none"
# Distributions with the same code under a different name: without GPU libraries, or without MLflow's server.
SAME = {"xgboost": ("xgboost-cpu",), "mlflow": ("mlflow-skinny",)}


def versions() -> dict[str, str]:
    """Return the versions of Python and of MLflow."""
    return {"python": platform.python_version(), "mlflow": _version("mlflow")}


def mismatches(folder: Path) -> list[tuple[str, str, str]]:
    """Return the requirements of a model that are not met, as package, required version and installed version."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement

        lines = (folder / REQUIREMENTS_FILE).read_text(encoding="utf-8").splitlines()
    except (ImportError, OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            wanted = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:  # a comment, an option of pip or a path, which have no version
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        present = _version(wanted.name)
        if not present or not wanted.specifier.contains(present, prereleases=True):
            found.append((wanted.name, str(wanted.specifier) or "any", present or ABSENT))
    return found


def _version(name: str) -> str:
    """Return the version of an installed distribution or of its equivalent, or "" if there is none."""
    for known in (name, *SAME.get(name.lower(), ())):
        try:
            return metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
    return ""
