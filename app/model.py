"""Load a model from MLflow's folder format and predict with it. No HTTP in here.

The booster is read from its UBJSON file, never through the class that MLmodel names: whoever can write that
file would choose what this process imports.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from app import booster as xgboost
from app.booster import Booster, BoosterError, Matrix
from app.columns import columns_of
from app.contract import CONTRACT_FILE, MODEL_FILE, Contract
from app.errors import InvalidInputError, LoadError
from app.output import Output, output_of
from app.registry import EXAMPLE_FILE, MLMODEL_FILE, Provenance, fetch
from app.settings import ModelFolder, Settings
from app.signature import Signature
from app.tracking import Tracking

# Of an answer: processors of other kinds round exp() in the last of float32's 24 bits, and no more.
SAME_ANSWER = 1e-5

log = logging.getLogger(__name__)

_LOG_AGAIN = "log the model again with mlflow.xgboost.log_model(model_format='ubj')"


@dataclass(frozen=True)
class Model:
    """A booster that predicted its own input example, and what is known about it."""

    provenance: Provenance
    signature: Signature
    output: Output
    contract: Contract | None
    example: dict[str, Any] | None
    sha256: str
    trained_at: datetime | None  # as MLflow wrote it when the model was logged
    loaded_at: datetime
    booster: Booster

    def predict(self, rows: Matrix) -> list[Any]:
        """Return one JSON value per row, as `output` describes it.

        Args:
            rows: shape (rows, columns), float32, NaN is missing.

        Raises:
            BoosterError: the booster failed.
            ValueError: its output is NaN or infinite.
        """
        return self.output.values(self.answer(rows))

    def answer(self, rows: Matrix) -> Matrix:
        """Return the booster's own numbers, shape (rows, outputs), as `predict` does."""
        return _finite(self.booster.predict(rows))

    def document(self) -> dict[str, Any]:
        """Return all that is known, as JSON."""
        return asdict(self.provenance) | {
            "sha256": self.sha256,
            "task": self.output.task,
            "objective": self.booster.objective,
            "target": self.contract.target if self.contract else None,
            "classes": list(self.output.classes),
            "signature": self.signature.document(),
            "input_example": self.example,
            "trained_at": self.trained_at.isoformat(timespec="seconds") if self.trained_at else None,
            "loaded_at": self.loaded_at.isoformat(timespec="seconds"),
        }


def obtain(settings: Settings, deadline: float) -> Model:
    """Return the model that the settings name, downloaded first when it is a registered one.

    Args:
        deadline: on the clock of time.monotonic, seconds; no call to MLflow outlasts it.

    Raises:
        LoadError: it cannot be had, or does not load.
    """
    source = settings.source
    if isinstance(source, ModelFolder):
        provenance = folder_provenance(source, settings.model_uri, settings.served_name)
        return load(source.path, provenance, settings.model_sha256)
    folder, provenance = fetch(Tracking(settings, deadline), source, settings.served_name, settings.cache_dir)
    return load(folder, provenance, settings.model_sha256)


def load(folder: Path, provenance: Provenance, pinned: str = "") -> Model:
    """Read the folder, and let the model predict its input example (or one row of nothing but missing values).

    Args:
        folder: in MLflow's format.
        provenance: what the registry says about it.
        pinned: sha256 that the booster's file must have; empty: any.

    Raises:
        LoadError: a file is missing or damaged, or the parts do not fit each other.
    """
    mlmodel = _mlmodel(folder)
    contract = _contract(folder)
    content = _read(folder, MODEL_FILE)
    sha256 = hashlib.sha256(content).hexdigest()
    if pinned and sha256 != pinned:  # of the bytes in hand: a file that changes later is not looked at again
        raise LoadError(
            f"{MODEL_FILE} has sha256 {sha256}, but {pinned} is pinned",
            "find out who changed it, or pin the digest you trust in MODEL_SERVICE_MODEL_SHA256",
        )
    log.info("model read", extra={"sha256": sha256, "pinned": bool(pinned), "bytes": len(content)})
    begin = time.monotonic()
    booster = _booster(content, mlmodel)
    facts = {"objective": booster.objective, "features": len(booster.features), "xgboost_version": xgboost.version()}
    log.info("booster built", extra=facts | {"seconds": round(time.monotonic() - begin, 3)})
    signature = Signature(columns_of(mlmodel, contract, booster.features))
    example = _example(folder)
    begin = time.monotonic()
    try:
        rows = _example_rows(signature, example)
        found = _finite(booster.predict(rows))
    except InvalidInputError as error:
        first = error.errors[0]
        where = f"row {first.row}, column {first.column}: {first.problem}"
        raise LoadError(f"its own input example is refused ({where})", _LOG_AGAIN) from None
    except (BoosterError, ValueError) as error:
        raise LoadError(f"it cannot predict its own input example ({error})", _LOG_AGAIN) from None
    if len(found) != len(rows):
        raise LoadError(f"it answers {len(rows)} rows with {len(found)} predictions", _LOG_AGAIN)
    if contract and contract.example_output:
        _compare(found, contract)
    output = output_of(booster, found.shape[1], contract)
    rows_of = "the input example" if example else "missing values, as there is no input example"
    seconds = round(time.monotonic() - begin, 3)
    log.info("warmed up", extra={"rows": len(rows), "rows_of": rows_of, "seconds": seconds})
    trained_at, now = _trained_at(mlmodel), datetime.now(UTC)
    return Model(provenance, signature, output, contract, example, sha256, trained_at, now, booster)


def folder_provenance(source: ModelFolder, uri: str, served_name: str) -> Provenance:
    """Describe a model that no registry knows: its version is the beginning of its digest."""
    mlmodel = _mlmodel(source.path)
    version = hashlib.sha256(_read(source.path, MODEL_FILE)).hexdigest()[:12]
    log.info("model found", extra={"version": version, "folder": str(source.path)})
    return Provenance(name=served_name, version=version, uri=uri, run_id=str(mlmodel.get("run_id") or ""))


def _mlmodel(folder: Path) -> dict[str, Any]:
    try:
        mlmodel = yaml.safe_load(_read(folder, MLMODEL_FILE))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise LoadError("MLmodel is no YAML", _LOG_AGAIN) from None
    flavors = mlmodel.get("flavors") if isinstance(mlmodel, dict) else None
    if not isinstance(flavors, dict) or not isinstance(flavors.get("xgboost"), dict):
        raise LoadError("MLmodel has no flavor xgboost, the one that can be served", _LOG_AGAIN)
    if (data := flavors["xgboost"].get("data")) != MODEL_FILE:
        raise LoadError(f"MLmodel names {str(data)[:100]!r} as its file instead of {MODEL_FILE}", _LOG_AGAIN)
    return dict(mlmodel)


def _trained_at(mlmodel: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(mlmodel.get("utc_time_created"))).replace(tzinfo=UTC)
    except ValueError:
        return None


def _contract(folder: Path) -> Contract | None:
    if not (folder / CONTRACT_FILE).exists():
        return None
    try:
        return Contract.model_validate_json(_read(folder, CONTRACT_FILE))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise LoadError(f"{CONTRACT_FILE} is wrong: {problems}", "correct what training writes") from None


def _booster(content: bytes, mlmodel: dict[str, Any]) -> Booster:
    # Which class was logged decides how many trees answer; that is all its name is used for.
    wrapped = str(mlmodel["flavors"]["xgboost"].get("model_class", "")).startswith("xgboost.sklearn.")
    try:
        return Booster(content, best_only=wrapped)
    except ValueError as error:
        raise LoadError(f"{MODEL_FILE} is damaged or no UBJSON: {error}", _LOG_AGAIN) from None
    except BoosterError as error:
        raise LoadError(f"XGBoost {xgboost.version()} cannot serve {MODEL_FILE}: {error}", _LOG_AGAIN) from None


def _example(folder: Path) -> dict[str, Any] | None:
    """Return the logged input example when it is a data frame, which is then a valid request."""
    if not (folder / EXAMPLE_FILE).exists():
        return None
    try:
        # MLflow writes a missing value as NaN, which is no JSON and would be none in our answers.
        example = json.loads(_read(folder, EXAMPLE_FILE), parse_constant=lambda _: None)
    except ValueError:
        raise LoadError(f"{EXAMPLE_FILE} is no JSON", _LOG_AGAIN) from None
    if not isinstance(example, dict) or not {"columns", "data"} <= example.keys() or not example["data"]:
        return None
    return {"columns": example["columns"], "data": example["data"]}


def _compare(found: Matrix, contract: Contract) -> None:
    """Refuse a model that answers its input example otherwise here than in training."""
    if len({len(found), len(contract.example_output)}) != 1 or {*map(len, contract.example_output)} != {found.shape[1]}:
        raise LoadError(
            f"example_output of {CONTRACT_FILE} is not of {found.shape} numbers", "correct what training writes"
        )
    expected = np.array(contract.example_output, dtype=np.float32)
    if not np.allclose(found, expected, rtol=SAME_ANSWER, atol=SAME_ANSWER):
        raise LoadError(
            f"it answers its input example otherwise than in training, by up to {np.abs(found - expected).max():g}",
            f"find out what differs from the training: this is XGBoost {xgboost.version()}",
        )


def _example_rows(signature: Signature, example: dict[str, Any] | None) -> Matrix:
    if example is None:
        return np.full((1, len(signature.names)), np.nan, dtype=np.float32)
    columns: Sequence[Any] = example["columns"]
    return signature.from_split(columns, example["data"])


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        remedy = "point the URI at the folder that mlflow.xgboost.save_model wrote"
        raise LoadError(f"{folder / name} cannot be read ({error.strerror})", remedy) from None


def _finite(output: Matrix) -> Matrix:
    if not np.isfinite(output).all():
        raise ValueError("its output is not finite, which JSON cannot say")
    return output
