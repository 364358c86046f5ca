"""Read what every model's folder has in MLflow's format: MLmodel, contract, input example."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError
from app.registry import EXAMPLE_FILE, MLMODEL_FILE

LOG_AGAIN = "log the model again with mlflow.xgboost.log_model(model_format='ubj')"


def mlmodel_of(folder: Path) -> dict[str, Any]:
    """Return the content of MLmodel.

    Raises:
        LoadError: it cannot be read, or names no flavors.
    """
    try:
        mlmodel = yaml.safe_load(read(folder, MLMODEL_FILE))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise LoadError("MLmodel is no YAML", LOG_AGAIN) from None
    if not isinstance(mlmodel, dict) or not isinstance(mlmodel.get("flavors"), dict):
        raise LoadError("MLmodel names no flavor", LOG_AGAIN)
    return mlmodel


def flavor_of(mlmodel: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what MLmodel says about a flavor, or None."""
    found = mlmodel["flavors"].get(name)
    return found if isinstance(found, dict) else None


def trained_at(mlmodel: dict[str, Any]) -> datetime | None:
    """Return when the model was logged, as MLflow wrote it."""
    try:
        return datetime.fromisoformat(str(mlmodel.get("utc_time_created"))).replace(tzinfo=UTC)
    except ValueError:
        return None


def contract_of(folder: Path) -> Contract | None:
    """Return the contract, if there is one.

    Raises:
        LoadError: it is wrong.
    """
    if not (folder / CONTRACT_FILE).exists():
        return None
    try:
        return Contract.model_validate_json(read(folder, CONTRACT_FILE))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise LoadError(f"{CONTRACT_FILE} is wrong: {problems}", "correct what training writes") from None


def example_of(folder: Path, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the logged input example as a valid request, when it is a data frame, or an array of rows or named arrays.

    Args:
        folder: of the model.
        names: of its columns, which an array does not tell.

    Raises:
        LoadError: it is no JSON.
    """
    if not (folder / EXAMPLE_FILE).exists():
        return None
    try:
        # MLflow writes a missing value as NaN, which is no JSON and would be none in our answers.
        example = json.loads(read(folder, EXAMPLE_FILE), parse_constant=lambda _: None)
    except ValueError:
        raise LoadError(f"{EXAMPLE_FILE} is no JSON", LOG_AGAIN) from None
    if isinstance(example, list) and example and isinstance(example[0], list):
        one = len(names) == 1 and len(example[0]) != 1  # a column whose cells are themselves arrays
        return {"columns": list(names), "data": [[row] for row in example] if one else example}
    if not isinstance(example, dict):
        return None
    if {"columns", "data"} <= example.keys():
        return {"columns": example["columns"], "data": example["data"]} if example["data"] else None
    if example.keys() == set(names) and all(isinstance(each, list) and each for each in example.values()):
        return {"columns": list(names), "data": [list(row) for row in zip(*(example[n] for n in names), strict=False)]}
    return None


def read(folder: Path, name: str) -> bytes:
    """Return the content of a file.

    Raises:
        LoadError: it cannot be read.
    """
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        remedy = "point the URI at the folder that mlflow.xgboost.save_model wrote"
        raise LoadError(f"{folder / name} cannot be read ({error.strerror})", remedy) from None
