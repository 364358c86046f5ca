"""Models of all MLflow flavors, loaded by MLflow's pyfunc with the model's own packages.

Loading such a model runs code that it contains. This requires `model.flavor=pyfunc`, and a pinned digest is verified
before that code runs. Pods that serve XGBoost models do not import this module.
"""

import importlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import InvalidInputError, LoadError
from app.model.base import Model
from app.model.columns import FLOAT32_MAX, FLOAT64_MAX, NESTED, SCALARS, Column
from app.model.compatibility import ABSENT, Mismatch, Mode, enforce, environment_mismatches
from app.model.digest import digest_of, refusal
from app.model.files import ModelFiles, Provenance, contract_of, example_of, flavor_of, mlmodel_of, trained_at
from app.model.input_columns import inputs_of, tensor_columns
from app.model.parameters import NO_PARAMETERS, Parameters, checked, parameters_of
from app.model.pyfunc_inputs import Cell, frame_of, tensors_of
from app.model.pyfunc_outputs import Table, output_of, table_of, values_of
from app.model.signature import Cells, Signature

_PACKAGES = "build an image FROM this one with the model's packages (docs/how-to/custom-image.md)"
_ENFORCED = "SCHEMA_ENFORCEMENT_FAILED"
_SIGN = "log it with a signature (mlflow.models.infer_signature) and an input example"

log = logging.getLogger(__name__)


class TableSignature(Signature):
    """The signature of a model whose input cells are Python objects."""

    def __init__(self, columns: Sequence[Column], mlmodel: dict[str, Any]) -> None:
        super().__init__(columns)
        self.numeric = False  # turns off the fast path from text to float32
        self.parameters = parameters_of(mlmodel)
        self.defaults = checked(self.parameters, {})

    def _matrix(self, rows: Sequence[list[Any]]) -> Cells:
        self._check(rows)
        cells = np.empty((len(rows), len(self.columns)), dtype=object)
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                cells[number, place] = value
        return cells


@dataclass(frozen=True)
class PyfuncModel(Model):
    """A model of any MLflow flavor."""

    flavor = "pyfunc"
    inline = False
    explainable = False

    function: Any  # mlflow.pyfunc.PyFuncModel
    tensors: str  # form of the input: "" for a data frame, "array" or "arrays" for one or several NumPy arrays

    @property
    def objective(self) -> None:
        """None, because most flavors do not record it."""

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row. Thread-safe if the model is."""
        return values_of(_answer(self.function, self.tensors, self.signature, rows, parameters), self.output)


def load(folder: Path, provenance: Provenance, pinned: str = "", compatibility: Mode = "warn") -> PyfuncModel:
    """Load the folder with MLflow, and predict the model's input example.

    Args:
        folder: Folder in MLflow's format.
        provenance: Origin of the model.
        pinned: Required digest of all files; empty: any.
        compatibility: What to do if package versions differ from those of the model.

    Raises:
        LoadError: A file or a package is missing, or parts of the model contradict each other.
    """
    files = ModelFiles(folder)
    digests = files.all_digests()
    sha256 = digest_of(digests)
    if pinned and sha256 != pinned:  # the digest of fewer files would leave some of the model's code unverified
        raise refusal(digests, pinned, "pinned", {})
    mlmodel = mlmodel_of(files)
    if flavor_of(mlmodel, "python_function") is None:
        raise LoadError("MLmodel has no flavor python_function", "log the model with one of MLflow's flavors")
    provenance = provenance.completed(mlmodel, sha256)
    contract = contract_of(files)
    inputs = inputs_of(mlmodel)
    signature = TableSignature(_columns(inputs), mlmodel)
    if (example := example_of(files, signature.names)) is None:
        raise LoadError("it has no input example, from which the form of its output is determined", _SIGN)
    pyfunc = _pyfunc()
    mismatches = enforce(environment_mismatches(folder, mlmodel), compatibility)
    begin = time.monotonic()
    function = _loaded(pyfunc, folder, mismatches)
    log.info("model built", extra={"sha256": sha256, "seconds": round(time.monotonic() - begin, 3)})
    tensors = ("array" if not inputs[0].get("name") else "arrays") if inputs[0]["type"] == "tensor" else ""
    begin = time.monotonic()
    try:
        rows = signature.from_split(example["columns"], example["data"])
        table = _answer(function, tensors, signature, rows, signature.defaults)
    except InvalidInputError as error:
        where = "; ".join(f"row {each.row}, column {each.column}: {each.problem}" for each in error.errors[:1])
        raise LoadError(f"its own input example is invalid ({where or error})", _SIGN) from None
    except Exception as error:
        log.error("the model failed on its own input example", exc_info=True)
        raise LoadError(f"it cannot predict its own input example ({type(error).__name__})", "see the log") from None
    output = output_of(table, contract)
    log.info("warmed up", extra={"rows": len(rows), "seconds": round(time.monotonic() - begin, 3)})
    known = (digests, trained_at(mlmodel), datetime.now(UTC), mismatches)
    return PyfuncModel(provenance, signature, output, contract, example, *known, function, tensors)


def _columns(inputs: list[dict[str, Any]]) -> list[Column]:
    if not inputs:
        raise LoadError("MLmodel has no signature, which defines the valid input", _SIGN)
    columns: list[Column] = []
    for entry in inputs:
        name, kind = entry.get("name"), str(entry.get("type"))
        if kind == "tensor":
            columns += tensor_columns(entry, largest=FLOAT64_MAX)
        elif not name or kind not in SCALARS | NESTED.keys():
            raise LoadError(f"input {name or '(unnamed)'} has type {kind}, which is not supported", _SIGN)
        else:
            largest = FLOAT32_MAX if kind == "float" else FLOAT64_MAX
            columns.append(Column(name, kind, entry.get("required", True), largest=largest))
    return columns


def _pyfunc() -> Any:
    """Import MLflow's pyfunc, which takes seconds and a quarter of a gigabyte of memory."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return importlib.import_module("mlflow.pyfunc")
    except ModuleNotFoundError as error:
        raise LoadError(
            f"model.flavor=pyfunc requires the package {error.name}, which is not installed in this image", _PACKAGES
        ) from None


def _loaded(pyfunc: Any, folder: Path, mismatches: tuple[Mismatch, ...] | None) -> Any:
    absent = [each.package for each in mismatches or () if each.present == ABSENT]
    wanted = f"; requirements that are not installed: {', '.join(absent)}" if absent else ""
    try:
        return pyfunc.load_model(str(folder))
    except ModuleNotFoundError as error:
        raise LoadError(
            f"it requires the package {error.name}, which is not installed in this image{wanted}", _PACKAGES
        ) from None
    except Exception as error:
        log.error("MLflow cannot load the model", exc_info=True)
        raise LoadError(f"MLflow cannot load it ({type(error).__name__}){wanted}", "see the log") from None


def _answer(function: Any, tensors: str, signature: Signature, rows: Cells, parameters: Parameters) -> Table:
    columns = signature.columns
    given: Cell = tensors_of(rows, columns, one=tensors == "array") if tensors else frame_of(rows, columns)
    try:
        answer = function.predict(given, params=dict(parameters) or None)
    except Exception as error:
        if getattr(error, "error_class", "") == _ENFORCED:  # raised by MLflow before it calls the model
            raise InvalidInputError(
                "The contents of a list or an object in the rows do not fit the model's signature."
            ) from None
        raise
    return table_of(answer, len(rows))
