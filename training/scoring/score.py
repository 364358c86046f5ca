"""Batch scoring, part by part: read, validate, predict, write."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import LISTED_ERRORS
from app.model.base import Model
from app.model.output import Output
from training.data.chunks import Chunk, ChunkedData
from training.data.model_matrix import Bad, Mask
from training.errors import InputError
from training.scoring.answers import answers_of, encoded, filled, prediction_columns, prediction_names
from training.scoring.parts import Parts

_LOG_SECONDS = 10.0

log = logging.getLogger(__name__)


def score(model: Model, data: ChunkedData, parts: Parts, part_rows: int, more: tuple[str, ...], *, skip: bool) -> int:
    """Write the missing parts, and return the total number of rows.

    Args:
        model: The model.
        data: The data set.
        parts: The output.
        part_rows: Number of rows of a part.
        more: Columns of the data to copy.
        skip: Give a row with a bad cell an error instead of a prediction, and do not end the run.

    Raises:
        InputError: A cell is not valid, and `skip` is false. The message names rows and columns, and contains no value.
        TrainingError: The data cannot be read, or a part cannot be written.
        BoosterError, ModelError, ProblemError: The model failed.
    """
    done = parts.done()
    if done:
        log.info(
            "continuing after %s: %d rows are already scored", done[-1]["name"], sum(each["rows"] for each in done)
        )
    before = sum(each["rows"] for each in done)
    begin = said = time.monotonic()
    rows: int = before
    unseen: Counter[str] = Counter()
    if not done or done[-1]["rows"] == part_rows:  # only the last part is shorter
        for chunk in data.chunks(part_rows, before):
            done.append(parts.write(len(done), _predicted(model, chunk, more, data.null_words, unseen, skip=skip)))
            rows += chunk.table.num_rows
            if (now := time.monotonic()) - said > _LOG_SECONDS:
                said = now
                log.info("%d rows, %.0f rows/s", rows, (rows - before) / (now - begin))
    for name, count in sorted(unseen.items()):
        log.warning("column %s: %d unknown categories were scored as missing values", name, count)
    parts.finish({"rows": rows, "parts": done})
    return rows


def _predicted(
    model: Model,
    chunk: Chunk,
    more: tuple[str, ...],
    null_words: tuple[str, ...],
    unseen: Counter[str],
    *,
    skip: bool,
) -> pa.Table:
    """Return the table of a part: row number, copied columns, prediction and model."""
    cells, bad, reasons = encoded(model, chunk, null_words, unseen)
    if bad.any() and not skip:
        raise InputError(_sentence(islice(reasons, LISTED_ERRORS), int(bad.sum()), chunk.first_row))
    answers = answers_of(model, filled(model, cells, bad))
    rows = len(cells)
    columns: dict[str, Any] = {"row": pa.array(np.arange(chunk.first_row, chunk.first_row + rows))}
    columns |= {name: chunk.table.column(name) for name in more}
    columns |= {name: _without(bad, values) for name, values in prediction_columns(answers)}
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


def columns_of(output: Output) -> list[str]:
    """Return the names of the columns that scoring adds."""
    return ["row", *prediction_names(output), "model_name", "model_version", "model_sha256"]


def _without(bad: Mask, values: pa.Array) -> pa.Array:
    """Set the values of bad rows to null."""
    if not bad.any():
        return values
    return pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)


def _sentence(bad: Iterator[Bad], rows: int, first_row: int) -> str:
    places = "; ".join(f"row {first_row + each.row}, column {each.column}: {each.problem}" for each in bad)
    return (
        f"{rows} row{'s are' if rows > 1 else ' is'} not valid for the model ({places}): correct the data, or set "
        "--on-error=skip, which writes an error instead of a prediction."
    )
