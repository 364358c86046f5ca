"""Compatibility of the packages with those that a model was logged with.

For XGBoost models only the XGBoost version is compared, because only its library is used. A pyfunc model may depend on
any package, so Python and all requirements of the model are compared.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from app.errors import LoadError
from app.model.files import flavor_of

PYTHON_ENV_FILE = "python_env.yaml"

Mode = Literal["off", "warn", "fail"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mismatch:
    """A package whose installed version differs from the one that the model requires."""

    package: str
    wanted: str
    present: str


def booster_mismatches(mlmodel: dict[str, Any], present: str) -> tuple[Mismatch, ...]:
    """Return the mismatch if XGBoost's minor version differs, which may change predictions or the file format."""
    wanted = str((flavor_of(mlmodel, "xgboost") or {}).get("xgb_version") or "")
    same = not wanted or _minor(wanted) == _minor(present)
    return () if same else (Mismatch("xgboost", wanted, present),)


def environment_mismatches(folder: Path, mlmodel: dict[str, Any], facts: Mapping[str, Any]) -> tuple[Mismatch, ...]:
    """Return the mismatches of Python (minor version only) and of the model's requirements.

    Args:
        folder: Folder of the model.
        mlmodel: Content of the file MLmodel.
        facts: What the worker reports: the version of its Python, and the requirements that its packages do not meet.
    """
    wanted, present = python_of(folder, mlmodel), str(facts.get("python", ""))
    python = (Mismatch("python", wanted, present),) if wanted and _minor(wanted) != _minor(present) else ()
    return (*python, *(Mismatch(*map(str, each)) for each in facts.get("mismatches", ())))


def python_of(folder: Path, mlmodel: dict[str, Any]) -> str:
    """Return the version of Python with which a model was logged, or "" if it is not known."""
    try:
        stated = yaml.safe_load((folder / PYTHON_ENV_FILE).read_text(encoding="utf-8"))
        return str(stated["python"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return str((flavor_of(mlmodel, "python_function") or {}).get("python_version") or "")


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
            f"it was logged with package versions that differ from those installed: {named}",
            "train with these versions, install the model's versions, or set model.compatibility=warn",
        )
    listed = [asdict(each) for each in mismatches]
    log.warning(f"The model was logged with different package versions: {named}.", extra={"mismatches": listed})
    return mismatches


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
