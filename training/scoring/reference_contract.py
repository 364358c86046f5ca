"""The contract of a model that was logged elsewhere, with the profile of its reference data.

The service's own code loads the model and reads the data, so that a value falls into the same bin as in production.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import xgboost as xgb
from pydantic import Field, ValidationError

from app.model.contract import Contract, Profile, Task
from app.model.digest import MLMODEL_FILE
from app.model.files import ModelFiles
from training.data.chunks import Chunk, ChunkedData
from training.data.model_matrix import encode
from training.data.null_words import without_words
from training.errors import InputError
from training.fitting.evaluate import importance
from training.fitting.reference_profile import Feature, predictions_of, profile_of, score_edges_of
from training.scoring.served_model import ModelOptions, load, place_of_data


class ReferenceOptions(ModelOptions):
    """The model and the reference data."""

    data: str = Field(
        description="Rows that represent the training data: a CSV or Parquet file, or a folder of either, as a local "
        "path or s3://. A file may also be at http(s)://."
    )
    target: str = Field(
        default="",
        description="Column with the true class, for the calibration of a binary model. Empty if there is none.",
    )
    rows: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Maximum number of rows to read, from the first on."
    )


def describe(options: ReferenceOptions, work: Path) -> tuple[Contract, Profile, str]:
    """Return the model's contract with the profile of the data, the profile, and the digest of the model file.

    Raises:
        InputError: The model or the data cannot be used.
        BoosterError: The booster failed.
    """
    model = load(options, work)
    output = model.output
    if output.task not in get_args(Task):
        raise InputError(
            f"{options.model_uri} is a {output.task} model. Drift, and therefore a profile, is not supported for it."
        )
    more = (options.target,) if options.target else ()
    words = model.contract.null_words if model.contract else None
    data = ChunkedData(place_of_data(options.data, work), model.signature.columns, more, words, options.csv_format)
    chunk = next(islice(data.chunks(options.rows, 0), 1), None)
    if chunk is None:
        raise InputError(f"{options.data} has no rows.")
    chunk = replace(chunk, table=without_words(chunk.table, data.null_words, more))
    rows, bad, reasons = encode(chunk.table, model.signature.columns, text=chunk.text, null_words=data.null_words)
    if bad.any():
        first = next(reasons)
        raise InputError(f"{options.data}, row {first.row + 1}, column {first.column}: {first.problem}.")
    numbers = model.answer(rows)
    truth = _truth(options.target, chunk, output.classes) if options.target and output.task == "binary" else None
    scored = truth is not None and output.form == "probabilities"
    try:
        contract = model.contract or Contract(
            task=cast(Task, output.task), target=options.target or "target", classes=output.classes
        )
        if options.unknown_category:
            contract = contract.model_copy(update={"unknown_category": options.unknown_category})
        profile = profile_of(
            [Feature(column.name, column.categories) for column in model.signature.columns],
            rows,
            importance(_booster(options, work)),
            predictions_of(contract.task, output.classes, numbers, truth if scored else None),
            score_edges_of(numbers) if output.task == "binary" and output.form == "probabilities" else (),
        )
    except ValidationError as error:
        raise InputError(f"{options.model_uri} cannot be described: {error.errors()[0]['msg']}.") from None
    return contract.model_copy(update={"profile": profile}), profile, model.sha256


def _truth(name: str, chunk: Chunk, classes: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the class of each row, 0 or 1."""
    places = {label: float(place) for place, label in enumerate(classes)}
    named = chunk.table.column(name).cast(pa.string()).to_pylist()
    if strangers := [row for row, label in enumerate(named) if label not in places]:
        row = strangers[0]
        raise InputError(f"Row {row + 1}, column {name}: must be one of the model's classes, {' and '.join(classes)}.")
    return np.array([places[label] for label in named], dtype=np.float32)


def _booster(options: ModelOptions, work: Path) -> xgb.Booster:
    """Return the model in XGBoost's package, which computes the gain. The file was verified when it was loaded."""
    uri = urlsplit(options.model_uri)
    folder = Path(unquote(uri.path)) if uri.scheme == "file" else next(work.rglob(MLMODEL_FILE)).parent
    files = ModelFiles(folder)
    return xgb.Booster(model_file=bytearray(files[files.model_file]))  # by content, as the service reads it
