"""XGBoost models, loaded from a folder in MLflow's format.

The booster is loaded from its UBJSON or JSON file and never through the class that MLmodel names. Otherwise, anyone who
can write MLmodel could choose what this process imports.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from app.errors import InvalidInputError, LoadError
from app.model import booster as xgboost
from app.model.base import Model
from app.model.booster import Booster, BoosterError, Category, Matrix
from app.model.calibration import calibrated
from app.model.compatibility import Mode, booster_mismatches, enforce
from app.model.contract import CONTRACT_FILE, Contract, UnknownCategory
from app.model.digest import coverage, digest_of, refusal
from app.model.files import (
    LOG_AGAIN,
    ModelFiles,
    Provenance,
    contract_of,
    example_of,
    mlmodel_of,
    model_file_of,
    trained_at,
    xgboost_flavor,
)
from app.model.input_columns import columns_of
from app.model.model_file import CONVERT, BinaryFormatError
from app.model.output import output_of
from app.model.parameters import NO_PARAMETERS, Parameters
from app.model.signature import Cells, Signature
from app.model.structure import VectorLeafError

# Tolerance for predictions: CPUs differ in the rounding of exp(), but only in the last of the 24 bits of float32.
SAME_ANSWER = 1e-5

TRAIN_AGAIN = "train it again with XGBoost 3.2 or newer, or without multi_strategy=multi_output_tree"
_NO_CATEGORIES: Mapping[str, tuple[Category, ...]] = MappingProxyType({})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoosterModel(Model):
    """An XGBoost model, predicted by XGBoost's library alone."""

    flavor = "xgboost"
    explainable = True

    booster: Booster
    sklearn_classifier: bool  # whether an XGBClassifier was logged, which predicts class indices in MLflow's protocol

    @property
    def objective(self) -> str:
        """Objective, as XGBoost names it."""
        return self.booster.objective

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row. NaN in the rows is a missing value; `parameters` is always empty.

        Raises:
            BoosterError: The booster failed.
            ValueError: A prediction is NaN or infinite.
        """
        del parameters
        return self.output.values(self.answer(rows))

    def answer(self, rows: Matrix) -> Matrix:
        """Return the model's numbers, shape (rows, outputs); raises the errors of `predict`."""
        return _finite(self.numbers(rows))

    def numbers(self, rows: Matrix) -> Matrix:
        """Return the booster's numbers, calibrated if the contract has a calibration, shape (rows, outputs).

        Raises:
            BoosterError: The booster failed.
        """
        found = self.booster.predict(rows)
        calibration = self.contract.calibration if self.contract else None
        return calibrated(found, calibration) if calibration else found


def load(
    folder: Path,
    provenance: Provenance,
    pinned: str = "",
    compatibility: Mode = "warn",
    categories: Mapping[str, tuple[Category, ...]] = _NO_CATEGORIES,
    unknown_category: UnknownCategory | Literal[""] = "",
) -> BoosterModel:
    """Load the model, and predict its input example or, without one, a row of missing values.

    Args:
        folder: Folder in MLflow's format.
        provenance: Origin of the model.
        pinned: Required digest of the model's deciding files, or of the model file alone; empty: any.
        compatibility: What to do if the model was trained with a different XGBoost version.
        categories: Categories by column, in the order of the booster's codes, which the model does not contain.
        unknown_category: How to take an unknown category; "": as the contract says.

    Raises:
        LoadError: A file is missing or damaged, or parts of the model contradict each other.
    """
    files = ModelFiles(folder)
    digests = files.digests()
    sha256 = digest_of(digests)
    if pinned and pinned != sha256:
        if not coverage(digests, files.model_file, pinned):
            raise refusal(digests, pinned, "pinned", {})
        advice = "changes of its other files go unnoticed; set model.sha256 to this digest of all of them"
        log.warning("the pinned digest covers %s alone: %s", files.model_file, advice, extra={"sha256": sha256})
    mlmodel = mlmodel_of(files)
    flavor = xgboost_flavor(mlmodel)
    contract = contract_of(files)
    file = model_file_of(flavor)
    content = files[file]
    log.info("model read", extra={"sha256": sha256, "pinned": bool(pinned), "bytes": len(content)})
    provenance = provenance.completed(mlmodel, sha256)
    begin = time.monotonic()
    booster = _booster(file, content, str(flavor.get("model_class", "")), provenance.parameters)
    facts = {"objective": booster.objective, "features": len(booster.features), "xgboost_version": xgboost.version()}
    log.info("booster built", extra=facts | {"seconds": round(time.monotonic() - begin, 3)})
    signature = Signature(columns_of(mlmodel, contract, booster.features, categories, unknown_category))
    example = example_of(files, signature.names)
    begin = time.monotonic()
    try:
        rows = _example_rows(signature, example)
        found = _finite(booster.predict(rows))
    except InvalidInputError as error:
        first = error.errors[0]
        where = f"row {first.row}, column {first.column}: {first.problem}"
        raise LoadError(f"its own input example is invalid ({where})", LOG_AGAIN) from None
    except (BoosterError, ValueError) as error:
        raise LoadError(f"it cannot predict its own input example ({error})", LOG_AGAIN) from None
    if len(found) != len(rows):
        raise LoadError(f"it returns {len(found)} predictions for {len(rows)} rows", LOG_AGAIN)
    if contract and contract.example_output:
        _compare(found, contract)
    output = output_of(booster, found.shape[1], contract)
    if contract and contract.calibration and output.form != "probabilities":
        raise LoadError(
            f"{CONTRACT_FILE} has a calibration, but the objective {booster.objective} predicts no probability",
            "correct what training writes",
        )
    rows_of = "the input example" if example else "missing values, because the model has no input example"
    seconds = round(time.monotonic() - begin, 3)
    log.info("warmed up", extra={"rows": len(rows), "rows_of": rows_of, "seconds": seconds})
    mismatches = enforce(booster_mismatches(mlmodel, xgboost.version()), compatibility)
    known = (digests, trained_at(mlmodel), datetime.now(UTC), mismatches)
    sklearn_classifier = str(flavor.get("model_class", "")).endswith("Classifier")
    return BoosterModel(provenance, signature, output, contract, example, *known, booster, sklearn_classifier)


def _booster(file: str, content: bytes, logged_class: str, parameters: Mapping[str, str]) -> Booster:
    # The name of the logged class is used only to decide how many trees predict, and what a missing value is.
    wrapped = logged_class.startswith("xgboost.sklearn.")
    missing = _missing(logged_class, parameters) if wrapped else math.nan
    try:
        return Booster(content, best_only=wrapped, missing=missing)
    except BinaryFormatError as error:
        raise LoadError(f"{file} {error}", CONVERT) from None
    except VectorLeafError as error:
        raise LoadError(f"{file} {error}", TRAIN_AGAIN) from None
    except ValueError as error:
        raise LoadError(f"{file} is damaged or not a model file of XGBoost: {error}", LOG_AGAIN) from None
    except BoosterError as error:
        raise LoadError(f"XGBoost {xgboost.version()} cannot serve {file}: {error}", LOG_AGAIN) from None


def _missing(logged_class: str, parameters: Mapping[str, str]) -> float:
    """Return the parameter `missing` of a scikit-learn class from its run, because the model file lacks it."""
    try:
        missing = float(parameters.get("missing", ""))
    except ValueError:
        name = logged_class.rpartition(".")[2]
        log.warning(
            f"The run did not log the parameter missing of {name}, which the model file does not contain. Only null is "
            "a missing value. If the model was trained with a different one, log model.get_params() in its run."
        )
        return math.nan
    log.info("missing value of the run", extra={"missing": str(missing)})
    return missing


def _compare(found: Matrix, contract: Contract) -> None:
    """Compare the predictions for the input example with those after training.

    Raises:
        LoadError: They differ.
    """
    if len({len(found), len(contract.example_output)}) != 1 or {*map(len, contract.example_output)} != {found.shape[1]}:
        raise LoadError(
            f"example_output of {CONTRACT_FILE} does not have the shape {found.shape}", "correct what training writes"
        )
    expected = np.array(contract.example_output, dtype=np.float32)
    if not np.allclose(found, expected, rtol=SAME_ANSWER, atol=SAME_ANSWER):
        raise LoadError(
            f"its predictions for the input example differ from those in training by up to "
            f"{np.abs(found - expected).max():g}",
            f"find the difference between training and this image, which has XGBoost {xgboost.version()}",
        )


def _example_rows(signature: Signature, example: dict[str, Any] | None) -> Matrix:
    if example is None:
        return np.full((1, len(signature.features)), np.nan, dtype=np.float32)
    columns: Sequence[Any] = example["columns"]
    return signature.from_split(columns, example["data"])


def _finite(output: Matrix) -> Matrix:
    if not np.isfinite(output).all():
        raise ValueError("its output contains NaN or infinity, which JSON does not support")
    return output
