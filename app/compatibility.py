"""Compare what a model was logged with to what this image has.

XGBoost's library alone predicts from a booster's file, so its version is all that matters there. What pyfunc loads may
depend on anything: Python and each of the model's requirements are compared.
"""

import logging
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

from app.errors import LoadError
from app.folder import flavor_of

Mode = Literal["off", "warn", "fail"]

REQUIREMENTS_FILE = "requirements.txt"
PYTHON_ENV_FILE = "python_env.yaml"
ABSENT = "none"

# The same code under another name: without a GPU's libraries, or without what only MLflow's server needs.
_SAME = {"xgboost": ("xgboost-cpu",), "mlflow": ("mlflow-skinny",)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mismatch:
    """A package that the image has in another version than the model asks for."""

    package: str
    wanted: str
    present: str


def of_booster(mlmodel: dict[str, Any], present: str) -> tuple[Mismatch, ...]:
    """Return whether XGBoost's minor version, from which its answers and its file format may differ, is another."""
    wanted = str((flavor_of(mlmodel, "xgboost") or {}).get("xgb_version") or "")
    same = not wanted or _minor(wanted) == _minor(present)
    return () if same else (Mismatch("xgboost", wanted, present),)


def of_environment(folder: Path, mlmodel: dict[str, Any]) -> tuple[Mismatch, ...]:
    """Return what differs of Python (its minor version) and of the model's requirements, which `packaging` reads."""
    return tuple(_differences(folder, mlmodel))


def settle(mismatches: tuple[Mismatch, ...], mode: Mode) -> tuple[Mismatch, ...] | None:
    """Log what differs, in one line, or refuse the model; None when nothing is to be compared.

    Raises:
        LoadError: the mode is `fail`, and something differs.
    """
    if mode == "off":
        return None
    if not mismatches:
        return ()
    named = ", ".join(f"{each.package} {each.wanted} (here: {each.present})" for each in mismatches)
    if mode == "fail":
        raise LoadError(
            f"it was logged with other packages than this image has: {named}",
            "train with the image's versions, build an image with the model's, or set model.compatibility=warn",
        )
    listed = [asdict(each) for each in mismatches]
    log.warning(f"The model was logged with other packages: {named}.", extra={"mismatches": listed})
    return mismatches


def _differences(folder: Path, mlmodel: dict[str, Any]) -> Iterator[Mismatch]:
    from packaging.requirements import InvalidRequirement, Requirement

    python = _wanted_python(folder, mlmodel)
    if python and _minor(python) != _minor(platform.python_version()):
        yield Mismatch("python", python, platform.python_version())
    try:
        lines = (folder / REQUIREMENTS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            wanted = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:  # a comment, an option of pip, or a path: nothing that has a version here
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        present = _version(wanted.name)
        if not present or not wanted.specifier.contains(present, prereleases=True):
            yield Mismatch(wanted.name, str(wanted.specifier) or "any", present or ABSENT)


def _wanted_python(folder: Path, mlmodel: dict[str, Any]) -> str:
    try:
        stated = yaml.safe_load((folder / PYTHON_ENV_FILE).read_text(encoding="utf-8"))
        return str(stated["python"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return str((flavor_of(mlmodel, "python_function") or {}).get("python_version") or "")


def _version(name: str) -> str:
    """Return the version of a distribution, or of one that is the same code; "" when there is none."""
    for known in (name, *_SAME.get(name.lower(), ())):
        try:
            return metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
