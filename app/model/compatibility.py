"""Compatibility of the image's packages with those that a model was logged with.

For XGBoost models only the XGBoost version is compared, because only its library is used. A pyfunc model may depend on
any package, so Python and all requirements of the model are compared.
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
from app.model.files import flavor_of

Mode = Literal["off", "warn", "fail"]

REQUIREMENTS_FILE = "requirements.txt"
PYTHON_ENV_FILE = "python_env.yaml"
ABSENT = "none"

# Distributions with the same code under a different name: without GPU libraries, or without MLflow's server.
_SAME = {"xgboost": ("xgboost-cpu",), "mlflow": ("mlflow-skinny",)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mismatch:
    """A package whose version in the image differs from the one that the model requires."""

    package: str
    wanted: str
    present: str


def booster_mismatches(mlmodel: dict[str, Any], present: str) -> tuple[Mismatch, ...]:
    """Return the mismatch if XGBoost's minor version differs, which may change predictions or the file format."""
    wanted = str((flavor_of(mlmodel, "xgboost") or {}).get("xgb_version") or "")
    same = not wanted or _minor(wanted) == _minor(present)
    return () if same else (Mismatch("xgboost", wanted, present),)


def environment_mismatches(folder: Path, mlmodel: dict[str, Any]) -> tuple[Mismatch, ...]:
    """Return the mismatches of Python (minor version only) and of the model's requirements."""
    return tuple(_differences(folder, mlmodel))


def enforce(mismatches: tuple[Mismatch, ...], mode: Mode) -> tuple[Mismatch, ...] | None:
    """Log the mismatches in one line, or reject the model. Return None if the mode is `off`.

    Raises:
        LoadError: The mode is `fail`, and there are mismatches.
    """
    if mode == "off":
        return None
    if not mismatches:
        return ()
    named = ", ".join(f"{each.package} {each.wanted} (installed: {each.present})" for each in mismatches)
    if mode == "fail":
        raise LoadError(
            f"it was logged with package versions that differ from this image: {named}",
            "train with the image's versions, build an image with the model's versions, or set "
            "model.compatibility=warn",
        )
    listed = [asdict(each) for each in mismatches]
    log.warning(f"The model was logged with different package versions: {named}.", extra={"mismatches": listed})
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
        except InvalidRequirement:  # a comment, an option of pip or a path, which have no version
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
    """Return the version of an installed distribution or of its equivalent, or "" if there is none."""
    for known in (name, *_SAME.get(name.lower(), ())):
        try:
            return metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
