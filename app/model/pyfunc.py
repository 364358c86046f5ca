"""Models of all MLflow flavors, which a worker runs in the model's own Python (app.worker).

The service reads the model's metadata and validates requests. It imports neither MLflow nor any code of the model.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import InvalidInputError, LoadError
from app.model.base import Model
from app.model.columns import FLOAT32_MAX, FLOAT64_MAX, NESTED, SCALARS, Column
from app.model.compatibility import Mismatch, Mode, enforce, environment_mismatches
from app.model.contract import Contract
from app.model.digest import digest_of, refusal
from app.model.files import ModelFiles, Provenance, contract_of, example_of, flavor_of, mlmodel_of, trained_at
from app.model.input_columns import inputs_of, tensor_columns
from app.model.output import Output
from app.model.parameters import NO_PARAMETERS, Parameters, checked, parameters_of
from app.model.pyfunc_inputs import Form, Inputs
from app.model.pyfunc_outputs import output_of, values_of
from app.model.signature import Cells, Signature
from app.model.worker import Answer, Worker, WorkerOptions
from app.model.worker_connection import ModelError

_SIGN = "log it with a signature (mlflow.models.infer_signature) and an input example"

log = logging.getLogger(__name__)


class TableSignature(Signature):
    """The signature of a model whose input cells are Python objects."""

    def __init__(self, columns: Sequence[Column], mlmodel: dict[str, Any]) -> None:
        super().__init__(columns)
        self.numeric = False  # turns off the fast path from text to float32
        self.parameters = parameters_of(mlmodel)
        self.defaults = checked(self.parameters, {})

    def _matrix(self, rows: Sequence[list[Any]], unseen: list[str] | None) -> Cells:
        del unseen  # no column of a pyfunc model has categories
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
    explainable = False

    worker: Worker

    @property
    def problem(self) -> str:
        """Why the worker cannot predict now, or "" if it can."""
        return self.worker.problem

    @property
    def objective(self) -> None:
        """None, because most flavors do not record it."""

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row. Thread-safe."""
        return self.values(self.submit(rows, parameters).result())

    def submit(self, rows: Cells, parameters: Parameters) -> Future[Answer]:
        """Return a future with the answer to these rows; raises ModelUnavailableError while the worker restarts."""
        return self.worker.submit(rows, parameters)

    def values(self, answer: Answer) -> list[Any]:
        """Return one JSON value per row of an answer; raises ValueError if its form differs from `output`."""
        return values_of(answer.table, self.output)


@dataclass(frozen=True)
class Checked:
    """The metadata of a model whose files were verified; none of its code has run."""

    mlmodel: dict[str, Any]
    files: ModelFiles
    digests: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """The digest of the model."""
        return digest_of(self.digests)


def check(folder: Path, pinned: str = "") -> Checked:
    """Verify the digest of all files, and that the model is one that MLflow can load.

    Args:
        folder: Folder in MLflow's format.
        pinned: Required digest of all files; empty: any.

    Raises:
        LoadError: A file is missing or has changed, or the model has no flavor python_function.
    """
    files = ModelFiles(folder, to_load=False)
    digests = files.all_digests()
    if pinned and digest_of(digests) != pinned:  # the digest of fewer files would leave some of the model's code out
        raise refusal(digests, pinned, "pinned", {})
    mlmodel = mlmodel_of(files)
    if flavor_of(mlmodel, "python_function") is None:
        raise LoadError("MLmodel has no flavor python_function", "log the model with one of MLflow's flavors")
    return Checked(mlmodel, files, digests)


def load(
    folder: Path,
    provenance: Provenance,
    pinned: str = "",
    compatibility: Mode = "warn",
    *,
    options: WorkerOptions,
    deadline: float,
    rows_for: Callable[[Signature], Cells] | None = None,
) -> PyfuncModel:
    """Let the worker load the model, and predict its input example.

    Args:
        folder: Folder in MLflow's format, with the same files as the worker's.
        provenance: Origin of the model.
        pinned: Required digest of all files; empty: any.
        compatibility: What to do if package versions differ from those of the model.
        options: How to use the worker.
        deadline: Time by time.monotonic(), in seconds, at which the worker must have loaded the model.
        rows_for: Returns rows to predict for a model that has no input example. None: such a model is rejected.

    Raises:
        LoadError: A file or a package is missing, or parts of the model contradict each other.
    """
    found = check(folder, pinned)
    mlmodel, files = found.mlmodel, found.files
    provenance = provenance.completed(mlmodel, found.sha256)
    contract = contract_of(files)
    inputs = inputs_of(mlmodel)
    signature = TableSignature(_columns(inputs), mlmodel)
    example = example_of(files, signature.names)
    rows = rows_for(signature) if example is None and rows_for else _example_rows(signature, example)
    mismatches: tuple[Mismatch, ...] | None = None

    def accept(facts: Mapping[str, Any]) -> None:
        nonlocal mismatches
        mismatches = enforce(environment_mismatches(folder, mlmodel, facts), compatibility)

    worker = Worker(options, Inputs(signature.columns, _form(inputs)), rows, accept, signature.defaults)
    log.info("waiting for the worker", extra={"sha256": found.sha256, "socket": str(options.path)})
    begin = time.monotonic()
    try:
        output = _warmed_up(worker, deadline, contract)
    except BaseException:
        worker.close()
        raise
    log.info("warmed up", extra={"rows": len(rows), "seconds": round(time.monotonic() - begin, 3)})
    known = (found.digests, trained_at(mlmodel), datetime.now(UTC), mismatches)
    return PyfuncModel(provenance, signature, output, contract, example, *known, worker)


def _warmed_up(worker: Worker, deadline: float, contract: Contract | None) -> Output:
    """Start the worker, and return the form of its output."""
    try:
        return output_of(worker.start(deadline), contract)
    except InvalidInputError as error:
        raise _invalid_example(error) from None
    except ModelError as error:
        log.error("the model failed on its own input example: %s", error)
        remedy = "see the log of the container model"
        raise LoadError(f"it cannot predict its own input example ({error})", remedy) from None


def _example_rows(signature: TableSignature, example: dict[str, Any] | None) -> Cells:
    if example is None:
        raise LoadError("it has no input example, from which the form of its output is determined", _SIGN)
    try:
        return signature.from_split(example["columns"], example["data"])
    except InvalidInputError as error:
        raise _invalid_example(error) from None


def _form(inputs: list[dict[str, Any]]) -> Form:
    if inputs[0]["type"] != "tensor":
        return "frame"
    return "arrays" if inputs[0].get("name") else "array"


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


def _invalid_example(error: InvalidInputError) -> LoadError:
    where = "; ".join(f"row {each.row}, column {each.column}: {each.problem}" for each in error.errors[:1])
    return LoadError(f"its own input example is invalid ({where or error})", _SIGN)
