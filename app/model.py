"""What every model is to the service, and the XGBoost model: read from MLflow's folder format. No HTTP in here.

The booster is read from its UBJSON file, never through the class that MLmodel names: whoever can write that
file would choose what this process imports.
"""

import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from app import booster as xgboost
from app.booster import Booster, BoosterError, Matrix
from app.compatibility import Mismatch, Mode, of_booster, settle
from app.contract import CONTRACT_FILE, MODEL_FILE, Contract
from app.errors import InvalidInputError, LoadError
from app.folder import LOG_AGAIN, contract_of, example_of, flavor_of, mlmodel_of, read, trained_at
from app.inputs import columns_of
from app.output import Output, output_of
from app.parameters import NO_PARAMETERS, Parameters
from app.registry import Provenance
from app.signature import Cells, Signature
from app.source import ModelFolder

# Of an answer: processors of other kinds round exp() in the last of float32's 24 bits, and no more.
SAME_ANSWER = 1e-5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model(ABC):
    """A model that predicted its own input example, and what is known about it."""

    flavor: ClassVar[str]
    inline: ClassVar[bool]  # so fast that few rows are predicted on the event loop
    explainable: ClassVar[bool]  # says what each column adds

    provenance: Provenance
    signature: Signature
    output: Output
    contract: Contract | None
    example: dict[str, Any] | None
    sha256: str
    trained_at: datetime | None  # as MLflow wrote it when the model was logged
    loaded_at: datetime
    mismatches: tuple[Mismatch, ...] | None  # packages of other versions than the model's; None: nobody looked

    @abstractmethod
    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row, as `output` describes it.

        Args:
            rows: as the signature makes them, shape (rows, columns).
            parameters: of the model's own, checked and with defaults.

        Raises:
            Exception: the model failed, or its output is none that JSON can say.
        """

    @property
    @abstractmethod
    def objective(self) -> str | None:
        """What the model was trained for, by its library's name."""

    def document(self) -> dict[str, Any]:
        """Return all that is known, as JSON."""
        return asdict(self.provenance) | {
            "sha256": self.sha256,
            "flavor": self.flavor,
            "task": self.output.task,
            "objective": self.objective,
            "target": self.contract.target if self.contract else None,
            "classes": list(self.output.classes),
            "signature": self.signature.document(),
            "params": [each.document() for each in self.signature.parameters],
            "input_example": self.example,
            "trained_at": self.trained_at.isoformat(timespec="seconds") if self.trained_at else None,
            "loaded_at": self.loaded_at.isoformat(timespec="seconds"),
            "mismatches": None if self.mismatches is None else [asdict(each) for each in self.mismatches],
        }


@dataclass(frozen=True)
class BoosterModel(Model):
    """A model of XGBoost's, which the library alone predicts with."""

    flavor = "xgboost"
    inline = True
    explainable = True

    booster: Booster
    picks: bool  # an XGBClassifier was logged, which answers MLflow's callers with a class's number

    @property
    def objective(self) -> str:
        """XGBoost's name of it."""
        return self.booster.objective

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row; NaN in the rows is missing. There are no parameters.

        Raises:
            BoosterError: the booster failed.
            ValueError: its output is NaN or infinite.
        """
        del parameters
        return self.output.values(self.answer(rows))

    def answer(self, rows: Matrix) -> Matrix:
        """Return the booster's own numbers, shape (rows, outputs), as `predict` does."""
        return _finite(self.booster.predict(rows))


def load(folder: Path, provenance: Provenance, pinned: str = "", compatibility: Mode = "warn") -> BoosterModel:
    """Read the folder, and let the model predict its input example (or one row of nothing but missing values).

    Args:
        folder: in MLflow's format.
        provenance: what the registry says about it.
        pinned: sha256 that the booster's file must have; empty: any.
        compatibility: what to do when the model was trained with another version of XGBoost.

    Raises:
        LoadError: a file is missing or damaged, or the parts do not fit each other.
    """
    mlmodel = _mlmodel(folder)
    contract = contract_of(folder)
    content = read(folder, MODEL_FILE)
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
    example = example_of(folder, signature.names)
    begin = time.monotonic()
    try:
        rows = _example_rows(signature, example)
        found = _finite(booster.predict(rows))
    except InvalidInputError as error:
        first = error.errors[0]
        where = f"row {first.row}, column {first.column}: {first.problem}"
        raise LoadError(f"its own input example is refused ({where})", LOG_AGAIN) from None
    except (BoosterError, ValueError) as error:
        raise LoadError(f"it cannot predict its own input example ({error})", LOG_AGAIN) from None
    if len(found) != len(rows):
        raise LoadError(f"it answers {len(rows)} rows with {len(found)} predictions", LOG_AGAIN)
    if contract and contract.example_output:
        _compare(found, contract)
    output = output_of(booster, found.shape[1], contract)
    rows_of = "the input example" if example else "missing values, as there is no input example"
    seconds = round(time.monotonic() - begin, 3)
    log.info("warmed up", extra={"rows": len(rows), "rows_of": rows_of, "seconds": seconds})
    mismatches = settle(of_booster(mlmodel, xgboost.version()), compatibility)
    known = (sha256, trained_at(mlmodel), datetime.now(UTC), mismatches)
    picks = str(mlmodel["flavors"]["xgboost"].get("model_class", "")).endswith("Classifier")
    return BoosterModel(provenance, signature, output, contract, example, *known, booster, picks)


def folder_provenance(source: ModelFolder, uri: str, served_name: str) -> Provenance:
    """Describe a model that no registry knows: its version is the beginning of its digest."""
    mlmodel = _mlmodel(source.path)
    version = hashlib.sha256(read(source.path, MODEL_FILE)).hexdigest()[:12]
    log.info("model found", extra={"version": version, "folder": str(source.path)})
    return Provenance(name=served_name, version=version, uri=uri, run_id=str(mlmodel.get("run_id") or ""))


def _mlmodel(folder: Path) -> dict[str, Any]:
    mlmodel = mlmodel_of(folder)
    if (flavor := flavor_of(mlmodel, "xgboost")) is None:
        raise LoadError(
            "MLmodel has no flavor xgboost, the one that is served without a model's own packages",
            f"{LOG_AGAIN}, or set model.flavor=pyfunc with an image that has the model's packages",
        )
    if (data := flavor.get("data")) != MODEL_FILE:
        raise LoadError(f"MLmodel names {str(data)[:100]!r} as its file instead of {MODEL_FILE}", LOG_AGAIN)
    return mlmodel


def _booster(content: bytes, mlmodel: dict[str, Any]) -> Booster:
    # Which class was logged decides how many trees answer; that is all its name is used for.
    wrapped = str(mlmodel["flavors"]["xgboost"].get("model_class", "")).startswith("xgboost.sklearn.")
    try:
        return Booster(content, best_only=wrapped)
    except ValueError as error:
        raise LoadError(f"{MODEL_FILE} is damaged or no UBJSON: {error}", LOG_AGAIN) from None
    except BoosterError as error:
        raise LoadError(f"XGBoost {xgboost.version()} cannot serve {MODEL_FILE}: {error}", LOG_AGAIN) from None


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


def _finite(output: Matrix) -> Matrix:
    if not np.isfinite(output).all():
        raise ValueError("its output is not finite, which JSON cannot say")
    return output
