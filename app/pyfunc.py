"""Load any MLflow model through pyfunc, by MLflow itself and the model's own packages, and predict with it.

Loading such a model runs code that came with it. So it is served only when it is asked for (`model.flavor`), and its
digest, when one is pinned, is checked before any of that code runs. The XGBoost way imports none of this.
"""

import hashlib
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

from app.columns import FLOAT32_MAX, FLOAT64_MAX, NESTED, SCALARS, Column
from app.compatibility import ABSENT, Mismatch, Mode, of_environment, settle
from app.errors import InvalidInputError, LoadError
from app.folder import contract_of, example_of, flavor_of, mlmodel_of, trained_at
from app.frames import Cell, frame_of, tensors_of
from app.inputs import inputs_of, tensor_columns
from app.model import Model
from app.parameters import NO_PARAMETERS, Parameters, checked, parameters_of
from app.registry import Provenance
from app.signature import Cells, Signature
from app.source import ModelFolder
from app.tables import Table, output_of, table_of, values_of

# MLflow's client writes it into what it downloads: it is no part of the model.
NOT_THE_MODELS = "registered_model_meta"

_PACKAGES = "build an image FROM this one with the model's packages (docs/custom-image.md)"
_ENFORCED = "SCHEMA_ENFORCEMENT_FAILED"
_SIGN = "log it with a signature (mlflow.models.infer_signature) and an input example"

log = logging.getLogger(__name__)


class TableSignature(Signature):
    """The columns and the parameters of a model that takes Python's values, whatever their types are."""

    def __init__(self, columns: Sequence[Column], mlmodel: dict[str, Any]) -> None:
        super().__init__(columns)
        self.numeric = False  # XGBoost's way from text to float32
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
    """A model of any of MLflow's flavors."""

    flavor = "pyfunc"
    inline = False
    explainable = False

    function: Any  # mlflow.pyfunc.PyFuncModel
    tensors: str  # "": it takes a data frame; "array" or "arrays": one or several of NumPy's

    @property
    def objective(self) -> None:
        """Nothing that every flavor would know."""

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row. Safe in several threads if the model is."""
        return values_of(_answer(self.function, self.tensors, self.signature, rows, parameters), self.output)


def load(folder: Path, provenance: Provenance, pinned: str = "", compatibility: Mode = "warn") -> PyfuncModel:
    """Let MLflow load the folder, and let the model predict its input example.

    Args:
        folder: in MLflow's format.
        provenance: what the registry says about it.
        pinned: `digest` that the folder must have; empty: any.
        compatibility: what to do when the image's packages are not the model's.

    Raises:
        LoadError: a file or a package is missing, or the parts do not fit each other.
    """
    mlmodel = mlmodel_of(folder)
    if flavor_of(mlmodel, "python_function") is None:
        raise LoadError("MLmodel has no flavor python_function", "log the model with one of MLflow's flavors")
    found = digest(folder)
    if pinned and found != pinned:
        raise LoadError(
            f"its folder has sha256 {found}, but {pinned} is pinned",
            "find out who changed it, or pin the digest you trust in MODEL_SERVICE_MODEL_SHA256",
        )
    contract = contract_of(folder)
    inputs = inputs_of(mlmodel)
    signature = TableSignature(_columns(inputs), mlmodel)
    if (example := example_of(folder, signature.names)) is None:
        raise LoadError("it has no input example to find out what it answers", _SIGN)
    pyfunc = _pyfunc()
    mismatches = settle(of_environment(folder, mlmodel), compatibility)
    begin = time.monotonic()
    function = _loaded(pyfunc, folder, mismatches)
    log.info("model built", extra={"sha256": found, "seconds": round(time.monotonic() - begin, 3)})
    tensors = ("array" if not inputs[0].get("name") else "arrays") if inputs[0]["type"] == "tensor" else ""
    begin = time.monotonic()
    try:
        rows = signature.from_split(example["columns"], example["data"])
        table = _answer(function, tensors, signature, rows, signature.defaults)
    except InvalidInputError as error:
        where = "; ".join(f"row {each.row}, column {each.column}: {each.problem}" for each in error.errors[:1])
        raise LoadError(f"its own input example is refused ({where or error})", _SIGN) from None
    except Exception as error:
        log.error("the model failed on its own input example", exc_info=True)
        raise LoadError(f"it cannot predict its own input example ({type(error).__name__})", "see the log") from None
    output = output_of(table, contract)
    log.info("warmed up", extra={"rows": len(rows), "seconds": round(time.monotonic() - begin, 3)})
    known = (found, trained_at(mlmodel), datetime.now(UTC), mismatches)
    return PyfuncModel(provenance, signature, output, contract, example, *known, function, tensors)


def folder_provenance(source: ModelFolder, uri: str, served_name: str) -> Provenance:
    """Describe a model that no registry knows: its version is the beginning of its digest."""
    run_id = str(mlmodel_of(source.path).get("run_id") or "")
    version = digest(source.path)[:12]
    log.info("model found", extra={"version": version, "folder": str(source.path)})
    return Provenance(name=served_name, version=version, uri=uri, run_id=run_id)


def digest(folder: Path) -> str:
    """Return the sha256 of a folder: of what `sha256sum` prints for its files in the order of their paths.

    Raises:
        LoadError: a file cannot be read.
    """
    lines = hashlib.sha256()
    try:
        paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for path in paths:
            if path != NOT_THE_MODELS:
                with (folder / path).open("rb") as file:
                    lines.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}\n".encode())
    except OSError as error:
        raise LoadError(f"{error.filename} cannot be read ({error.strerror})", "check the folder's files") from None
    return lines.hexdigest()


def _columns(inputs: list[dict[str, Any]]) -> list[Column]:
    if not inputs:
        raise LoadError("MLmodel has no signature, which says what a caller may send", _SIGN)
    columns: list[Column] = []
    for entry in inputs:
        name, kind = entry.get("name"), str(entry.get("type"))
        if kind == "tensor":
            columns += tensor_columns(entry, largest=FLOAT64_MAX)
        elif not name or kind not in SCALARS | NESTED.keys():
            raise LoadError(f"input {name or '(unnamed)'} is of type {kind}, which cannot be served", _SIGN)
        else:
            largest = FLOAT32_MAX if kind == "float" else FLOAT64_MAX
            columns.append(Column(name, kind, entry.get("required", True), largest=largest))
    return columns


def _pyfunc() -> Any:
    """Import MLflow's module: it takes seconds, and a quarter of a gigabyte."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return importlib.import_module("mlflow.pyfunc")
    except ModuleNotFoundError as error:
        raise LoadError(
            f"model.flavor=pyfunc needs the package {error.name}, which this image has not", _PACKAGES
        ) from None


def _loaded(pyfunc: Any, folder: Path, mismatches: tuple[Mismatch, ...] | None) -> Any:
    absent = [each.package for each in mismatches or () if each.present == ABSENT]
    wanted = f"; of its requirements this image has no {', '.join(absent)}" if absent else ""
    try:
        return pyfunc.load_model(str(folder))
    except ModuleNotFoundError as error:
        raise LoadError(f"it needs the package {error.name}, which this image has not{wanted}", _PACKAGES) from None
    except Exception as error:
        log.error("MLflow cannot load the model", exc_info=True)
        raise LoadError(f"MLflow cannot load it ({type(error).__name__}){wanted}", "see the log") from None


def _answer(function: Any, tensors: str, signature: Signature, rows: Cells, parameters: Parameters) -> Table:
    columns = signature.columns
    given: Cell = tensors_of(rows, columns, one=tensors == "array") if tensors else frame_of(rows, columns)
    try:
        answer = function.predict(given, params=dict(parameters) or None)
    except Exception as error:
        if getattr(error, "error_class", "") == _ENFORCED:  # by MLflow, before the model is asked
            raise InvalidInputError(
                "A list or an object in the rows has other contents than the model's signature says."
            ) from None
        raise
    return table_of(answer, len(rows))
