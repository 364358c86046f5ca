"""Score a data set with a model, part by part: read, check, predict, write."""

import logging
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.booster import BoosterError, Matrix
from app.errors import LISTED_ERRORS
from app.model import BoosterModel
from app.output import Output
from training.encode import Bad, Mask, encode
from training.errors import InputError
from training.parts import Parts
from training.tables import DataSet, Piece

_LOG_SECONDS = 10.0

log = logging.getLogger(__name__)


def score(
    model: BoosterModel, data: DataSet, parts: Parts, part_rows: int, more: tuple[str, ...], *, skip: bool
) -> int:
    """Write the parts that are missing; return the number of rows in all.

    Args:
        part_rows: rows of a part.
        more: columns of the data that are copied.
        skip: a row with a bad cell gets no prediction and says why, instead of ending the run.

    Raises:
        InputError: a cell does not fit its column, and `skip` is false; its text names rows and columns, and no value.
        TrainingError: the data cannot be read, or a part not written.
        BoosterError: the booster failed.
    """
    done = parts.done()
    if done:
        log.info("going on behind %s: %d rows are there", done[-1]["name"], sum(each["rows"] for each in done))
    before = sum(each["rows"] for each in done)
    begin = said = time.monotonic()
    rows: int = before
    if not done or done[-1]["rows"] == part_rows:  # a shorter part is the last one
        for piece in data.pieces(part_rows, before):
            done.append(parts.write(len(done), _predicted(model, piece, more, skip=skip)))
            rows += piece.table.num_rows
            if (now := time.monotonic()) - said > _LOG_SECONDS:
                said = now
                log.info("%d rows, %.0f rows/s", rows, (rows - before) / (now - begin))
    parts.finish({"rows": rows, "parts": done})
    return rows


def _predicted(model: BoosterModel, piece: Piece, more: tuple[str, ...], *, skip: bool) -> pa.Table:
    """Return the part's table: row, copied columns, prediction, what made it."""
    matrix, bad, reasons = encode(piece.table, model.signature.columns, text=piece.text)
    if bad.any() and not skip:
        raise InputError(_sentence(islice(reasons, LISTED_ERRORS), int(bad.sum()), piece.first_row))
    output = model.booster.predict(matrix)
    if not np.isfinite(output).all():
        raise BoosterError("its output is not finite")
    rows = len(matrix)
    columns: dict[str, Any] = {"row": pa.array(np.arange(piece.first_row, piece.first_row + rows))}
    columns |= {name: piece.table.column(name) for name in more}
    columns |= {name: _without(bad, values) for name, values in predictions(model.output, output)}
    if skip:
        first: dict[int, str] = {}
        for reason in reasons:
            first.setdefault(reason.row, f"{reason.column}: {reason.problem}")
        columns["error"] = pa.array([first.get(row) for row in range(rows)] if first else [None] * rows, pa.string())
    made_by = {
        "model_name": model.provenance.name,
        "model_version": model.provenance.version,
        "model_sha256": model.sha256,
    }
    index = pa.array(np.zeros(rows, dtype=np.int8))
    columns |= {name: pa.DictionaryArray.from_arrays(index, [value]) for name, value in made_by.items()}
    return pa.table(columns)


def predictions(output: Output, numbers: Matrix) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of what the service answers as JSON: `prediction`, and of classes their probabilities.

    Args:
        numbers: what the booster answered, shape (rows, width).
    """
    if output.form == "number":
        yield "prediction", pa.array(numbers[:, 0])
    elif output.form == "numbers":
        for i in range(output.width):
            yield f"prediction_{i}", pa.array(numbers[:, i])
    elif output.form == "label":
        yield "prediction", _labels(numbers[:, 0].astype(np.int32), output.classes)
    else:
        shares = np.stack([1 - numbers[:, 0], numbers[:, 0]], axis=1) if output.task == "binary" else numbers
        # Of two equal shares the first wins, here as in the service.
        yield "prediction", _labels(shares.argmax(axis=1).astype(np.int32), output.classes)
        for i, name in enumerate(output.classes):
            yield f"probability_{name}", pa.array(np.ascontiguousarray(shares[:, i]))


def columns_of(output: Output) -> list[str]:
    """Return the names of the columns that are added."""
    empty = np.zeros((0, output.width), dtype=np.float32)
    return ["row", *(name for name, _ in predictions(output, empty)), "model_name", "model_version", "model_sha256"]


def _labels(numbers: Any, classes: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers), list(classes))


def _without(bad: Mask, values: pa.Array) -> pa.Array:
    """Take away the values of bad rows."""
    if not bad.any():
        return values
    return pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)


def _sentence(bad: Iterator[Bad], rows: int, first_row: int) -> str:
    places = "; ".join(f"row {first_row + each.row}, column {each.column}: {each.problem}" for each in bad)
    return (
        f"{rows} row{'s do' if rows > 1 else ' does'} not fit the model ({places}): correct the data, or give "
        "--on-error=skip for rows without a prediction that say why."
    )
