"""The command `describe`: give a model that was logged elsewhere its contract.json, with a reference profile.

What `train` writes beside its own models. The service's own code loads the model and reads the data, so that a value
falls into the profile as it will fall into the counts.
"""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import xgboost as xgb
from pydantic import Field, ValidationError

from app.booster import BoosterError
from app.contract import CONTRACT_FILE, MODEL_FILE, Contract, Profile, Task
from training.encode import encode
from training.errors import InputError, ResourceError, TrainingError
from training.evaluate import importance
from training.profile import Feature, predictions_of, profile_of, score_edges_of
from training.score import Loading, load, place_of_data
from training.tables import DataSet, Piece


class Options(Loading):
    """Describe reference data as a model sees them; write the contract.json that belongs beside the model."""

    data: str = Field(
        description="Rows that stand for the training, CSV or Parquet: a local path or s3://; a file also by http(s)://."
    )
    target: str = Field(
        default="", description="Column with what is true, for the calibration of a binary model; empty: there is none."
    )
    rows: int = Field(default=1_000_000, ge=1, le=100_000_000, description="So many are read at most, the first ones.")
    output: Path = Field(default=Path(CONTRACT_FILE), description="File to write.")


def run(options: Options) -> dict[str, Any]:
    """Describe the data; return where the contract is and what it holds.

    Raises:
        TrainingError: model or data cannot be used, or the file not be written.
    """
    try:
        with tempfile.TemporaryDirectory() as work:
            contract, profile, sha256 = _described(options, Path(work))
    except BoosterError as error:
        raise TrainingError(f"XGBoost failed: {error}.") from None
    try:
        options.output.write_text(contract.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"--output (TRAINING_OUTPUT): {options.output} cannot be written ({error.strerror})."
        ) from None
    return {
        "output": str(options.output),
        "model_sha256": sha256,
        "rows": profile.predictions[0].samples,
        "features": len(profile.features),
        "predictions": [each.name for each in profile.predictions],
    }


def _described(options: Options, work: Path) -> tuple[Contract, Profile, str]:
    model = load(options, work)
    output = model.output
    if output.task not in get_args(Task):
        raise InputError(
            f"{options.model_uri} is a {output.task} model, which has no profile: no drift is counted of it."
        )
    more = (options.target,) if options.target else ()
    data = DataSet(place_of_data(options.data, work), model.signature.columns, more)
    piece = next(islice(data.pieces(options.rows, 0), 1), None)
    if piece is None:
        raise InputError(f"{options.data} has no rows.")
    rows, bad, reasons = encode(piece.table, model.signature.columns, text=piece.text)
    if bad.any():
        first = next(reasons)
        raise InputError(f"{options.data}, row {first.row + 1}, column {first.column}: {first.problem}.")
    numbers = model.answer(rows)
    truth = _truth(options.target, piece, output.classes) if options.target and output.task == "binary" else None
    scored = truth is not None and output.form == "probabilities"
    try:
        contract = model.contract or Contract(
            task=cast(Task, output.task), target=options.target or "target", classes=output.classes
        )
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


def _truth(name: str, piece: Piece, classes: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return each row's class, 0 or 1."""
    places = {label: float(place) for place, label in enumerate(classes)}
    named = piece.table.column(name).cast(pa.string()).to_pylist()
    if strangers := [row for row, label in enumerate(named) if label not in places]:
        row = strangers[0]
        raise InputError(f"Row {row + 1}, column {name}: must be one of the model's classes, {' and '.join(classes)}.")
    return np.array([places[label] for label in named], dtype=np.float32)


def _booster(options: Options, work: Path) -> xgb.Booster:
    """Return the model in XGBoost's own package, which knows the gain; it was checked when it was loaded."""
    uri = urlsplit(options.model_uri)
    file = Path(unquote(uri.path)) / MODEL_FILE if uri.scheme == "file" else next(work.rglob(MODEL_FILE))
    return xgb.Booster(model_file=str(file))
