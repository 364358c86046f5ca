"""The contract of a model that was logged elsewhere, with the profile of its reference data.

The service's own code loads the model and reads the data, so that a value falls into the same bin as in production.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from app.errors import LoadError
from app.model.base import Model
from app.model.booster import Category
from app.model.contract import Contract, Profile, Task, Variable
from app.model.files import ModelFiles
from app.model.pyfunc_outputs import Table, labels_of, numbers_of, output_of
from app.model.signature import Cells, Signature
from app.model.xgboost import BoosterModel
from app.monitoring.pyfunc_drift import NUMBERS, measured, numbers_or_codes
from training.data.chunks import Chunk, ChunkedData
from training.data.inference_log import asked
from training.data.model_cells import cells_of
from training.data.model_matrix import Bad, Mask
from training.data.null_words import without_words
from training.data.storage import Place
from training.data.storage import place as local
from training.errors import InputError, ResourceError
from training.fitting.evaluate import importance
from training.fitting.reference_profile import Feature, predictions_of, profile_of, score_edges_of, variable_of
from training.scoring.answers import Answers, answers_of, encoded
from training.scoring.served_model import ModelOptions, Running, place_of_data, served

MOST_CATEGORIES = 1000  # of a column; more are names or text, whose distribution shows nothing
_EXAMPLE_ROWS = 5

Numbers = NDArray[np.float32]

log = logging.getLogger("training")


class ReferenceOptions(ModelOptions):
    """The model and the reference data."""

    data: str = Field(
        default="",
        description="Rows that represent the training data: a CSV or Parquet file, or a folder of either, as a local "
        "path or s3://. A file may also be at http(s)://.",
    )
    from_log: str = Field(
        default="",
        description="Inference log whose newest rows are described, instead of --data: s3://, gs://, az://, file:// or "
        "a path.",
    )
    target: str = Field(
        default="",
        description="Column with the true class, for the calibration of a binary model. Empty if there is none.",
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Classes of a model of another flavor, separated by commas, in the order of its probabilities. The "
        "contract names them, and the service then returns a label with a probability per class.",
    )
    rows: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Maximum number of rows to read, from the first on."
    )

    @model_validator(mode="after")
    def _rows_have_one_source(self) -> Self:
        if bool(self.data) == bool(self.from_log):
            raise ValueError("--data or --from-log: name one of them")
        if self.from_log and self.target:
            raise ValueError("--target needs --data: the rows of --from-log have no labels")
        return self


def describe(options: ReferenceOptions, work: Path) -> tuple[Contract, Profile, str]:
    """Return the model's contract with the profile of the data, the profile, and the digest of the model file.

    Raises:
        InputError: The model or the data cannot be used.
        TrainingError: The model or the data are unreachable.
    """
    place = _logged(options, work) if options.from_log else place_of_data(options.data, work)
    with served(options, work, lambda signature: _first_rows(options, place, signature)) as running:
        model = running.model
        output = model.output
        if output.task not in get_args(Task):
            raise InputError(
                f"{options.model_uri} is a {output.task} model. Drift, and therefore a profile, is not supported for "
                "it."
            )
        words = model.contract.null_words if model.contract else None
        chunk, null_words = _chunk(options, place, model.signature, words, options.rows)
        rows, bad, reasons = encoded(model, chunk, null_words)
        _refuse(options, bad, reasons)
        answers = answers_of(model, rows)
        try:
            contract, profile = _described(options, running, chunk, rows, answers)
        except ValidationError as error:
            raise InputError(f"{options.model_uri} cannot be described: {error.errors()[0]['msg']}.") from None
        return contract.model_copy(update={"profile": profile}), profile, model.sha256


def _logged(options: ReferenceOptions, work: Path) -> Place:
    """Write the newest rows of an inference log to a file, and return its place."""
    path = work / "inference-log.parquet"
    try:
        parquet.write_table(asked(options.from_log, options.rows), path)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written ({error.strerror}).") from None
    return local(str(path))


def _described(
    options: ReferenceOptions, running: Running, chunk: Chunk, rows: Cells, answers: Answers
) -> tuple[Contract, Profile]:
    model = running.model
    known = model.contract
    if options.classes:
        if isinstance(model, BoosterModel):
            raise InputError("--classes (TRAINING_CLASSES): an XGBoost model has its classes in its contract.")
        task: Task = "binary" if len(options.classes) == 2 else "multiclass"
        named: dict[str, Any] = {"task": task, "classes": options.classes}
        fields = known.model_dump(exclude={"profile"}) if known else {"target": options.target or "target"}
        known = Contract.model_validate(fields | named)
        answers = _with_classes(answers, known)
    output = answers.output
    contract = known or Contract(
        task=cast(Task, output.task), target=options.target or "target", classes=output.classes
    )
    if options.unknown_category:
        contract = contract.model_copy(update={"unknown_category": options.unknown_category})
    truth = _truth(options.target, chunk, output.classes) if options.target and output.task == "binary" else None
    if isinstance(model, BoosterModel):
        return contract, _booster_profile(running, contract, rows, answers, truth)
    return contract, _profile(model, contract, rows, answers, truth)


def _booster_profile(
    running: Running, contract: Contract, rows: Cells, answers: Answers, truth: Numbers | None
) -> Profile:
    output, numbers = answers.output, cast(Numbers, answers.numbers)
    scored = output.form == "probabilities"
    return profile_of(
        [Feature(feature.name, feature.categories) for feature in running.model.signature.features],
        rows.T,
        importance(_booster(running.folder)),
        predictions_of(contract.task, output.classes, numbers, truth if scored else None),
        score_edges_of(numbers.reshape(-1)) if output.task == "binary" and scored else (),
    )


def _profile(model: Model, contract: Contract, rows: Cells, answers: Answers, truth: Numbers | None) -> Profile:
    """Return the profile of a model of another flavor, whose columns all count the same."""
    features: list[Feature] = []
    values: list[Numbers] = []
    left_out: list[str] = []
    for place, column in enumerate(model.signature.columns):
        cells = rows[:, place]
        categories: tuple[Category, ...] = ()
        if column.shape or column.type not in {*NUMBERS, "string"}:
            left_out.append(column.name)
            continue
        if column.type == "string":
            counted = Counter(cell for cell in cells.tolist() if cell is not None)
            categories = tuple(sorted(counted))
            if not 0 < len(categories) <= MOST_CATEGORIES:
                left_out.append(column.name)
                continue
        features.append(Feature(column.name, categories))
        values.append(numbers_or_codes(cells, categories))
    if left_out:
        log.info("no drift is counted for %s: neither numbers nor up to %d categories", left_out, MOST_CATEGORIES)
    predictions, edges = _predictions(contract, answers, truth)
    if not features and not predictions:
        raise InputError(
            f"No column of {model.provenance.uri} is a number or has categories: there is nothing to profile."
        )
    found = profile_of(features, values, {each.name: 1.0 for each in features}, predictions, edges)
    complete = [_with_others(each, feature.categories) for each, feature in zip(found.features, features, strict=True)]
    return found.model_copy(update={"features": tuple(complete)})


def _predictions(
    contract: Contract, answers: Answers, truth: Numbers | None
) -> tuple[tuple[Variable, ...], tuple[float, ...]]:
    """Return the distributions of the predictions, and the edges of the score bins."""
    output, table = answers.output, cast(Table, answers.values)
    if output.form == "record":
        return (), ()
    if output.form == "label":
        classes = output.classes or tuple(sorted(set(answers.labels())))
        label = variable_of("label", measured(table, output, classes)[:, 0], classes)
        return ((label if output.classes else _with_others(label, classes)),), ()
    numbers = measured(table, output, ())
    scored = output.form == "probabilities" and output.task == "binary"
    edges = score_edges_of(numbers[:, 0]) if scored else ()
    return predictions_of(contract.task, output.classes, numbers, truth if scored else None), edges


def _with_others(variable: Variable, categories: tuple[Category, ...]) -> Variable:
    """Return the distribution with the categories that have no bin, because the signature does not list them."""
    others = tuple(each for each in categories if each not in variable.categories)
    return variable.model_copy(update={"others": others})


def _with_classes(answers: Answers, contract: Contract) -> Answers:
    """Return the answers of a model of another flavor with named classes."""
    table = cast(Table, answers.values)
    try:
        output = output_of(table, contract)
    except LoadError as error:
        raise InputError(f"--classes (TRAINING_CLASSES): {error}.") from None
    if output.form != "label":
        return Answers(output, numbers_of(table, output), table)
    try:
        labels_of(table, output)
    except ValueError as error:
        raise InputError(f"--classes (TRAINING_CLASSES): {error}; list every class that the model predicts.") from None
    return Answers(output, None, table)


def _first_rows(options: ReferenceOptions, place: Place, signature: Signature) -> Cells:
    """Return rows of the data for the warm-up of a model that has no input example."""
    chunk, null_words = _chunk(options, place, signature, None, _EXAMPLE_ROWS)
    rows, bad, reasons = cells_of(chunk.table, signature.columns, text=chunk.text, null_words=null_words)
    _refuse(options, bad, reasons)
    return rows


def _chunk(
    options: ReferenceOptions, place: Place, signature: Signature, null_words: tuple[str, ...] | None, rows: int
) -> tuple[Chunk, tuple[str, ...]]:
    """Return the first rows of the data, and the words that stand for a missing value in them."""
    more = (options.target,) if options.target else ()
    data = ChunkedData(place, signature.columns, more, null_words, options.csv_format)
    chunk = next(islice(data.chunks(rows, 0), 1), None)
    if chunk is None:
        raise InputError(f"{options.data} has no rows.")
    return replace(chunk, table=without_words(chunk.table, data.null_words, more)), data.null_words


def _refuse(options: ReferenceOptions, bad: Mask, reasons: Iterator[Bad]) -> None:
    if bad.any():
        first = next(reasons)
        raise InputError(f"{options.data}, row {first.row + 1}, column {first.column}: {first.problem}.")


def _truth(name: str, chunk: Chunk, classes: tuple[str, ...]) -> Numbers:
    """Return the class of each row, 0 or 1."""
    places = {label: float(place) for place, label in enumerate(classes)}
    named = chunk.table.column(name).cast(pa.string()).to_pylist()
    if strangers := [row for row, label in enumerate(named) if label not in places]:
        row = strangers[0]
        raise InputError(f"Row {row + 1}, column {name}: must be one of the model's classes, {' and '.join(classes)}.")
    return np.array([places[label] for label in named], dtype=np.float32)


def _booster(folder: Path) -> xgb.Booster:
    """Return the model in XGBoost's package, which computes the gain. The file was verified when it was loaded."""
    files = ModelFiles(folder)
    return xgb.Booster(model_file=bytearray(files[files.model_file]))  # by content, as the service reads it
