"""Inference log of one model: its requests, rows and predictions, which `python -m training ship` turns into Parquet.

Rows are kept as the matrix that the booster has received, which costs no conversion: 32-bit numbers, and codes of
categories. Rows with a value that the matrix does not contain, such as a date or an unknown category, and rows of other
flavors are kept as JSON.
"""

import logging
import random
import time
from typing import Any

import numpy as np
import orjson

from app.context import CALLER, REQUEST_ID
from app.errors import LoadError
from app.model.base import Model
from app.model.booster import Matrix
from app.model.columns import FLOAT32_MAX
from app.model.output import Predictions
from app.model.rows import Rows
from app.model.signature import Cells
from app.model.xgboost import BoosterModel
from app.monitoring.segment_writer import Batch, SegmentWriter
from app.monitoring.segments import TOKEN_PART, LoggedColumn, LoggedModel, LoggedPredictions
from app.settings import Settings

CELL_BYTES = 60  # of a JSON value in memory

log = logging.getLogger(__name__)


class InferenceLog:
    """The inference log of one model.

    Args:
        settings: Sample ratio and redacted columns.
        model: The model.
        segments: Writer of the segments.

    Raises:
        LoadError: A redacted column is not in the model's signature.
    """

    def __init__(self, settings: Settings, model: Model, segments: SegmentWriter) -> None:
        names = model.signature.names
        if unknown := [name for name in settings.payload_redact if name not in names]:
            raise LoadError(
                f"the payload log is set to redact {', '.join(map(repr, unknown))}, but the model has no such column",
                "correct MODEL_SERVICE_PAYLOAD_REDACT (logging.payload.redact in the chart)",
            )
        self._ratio = settings.payload_sample_ratio
        self._model = model
        self._segments = segments
        self._kept = [place for place, name in enumerate(names) if name not in settings.payload_redact]
        self._redacts = len(self._kept) < len(names)
        columns = model.signature.columns
        self._as_matrix = isinstance(model, BoosterModel) and not any(each.parts or each.shape for each in columns)
        self._keys = (self, False), (self, True)
        self._row_bytes = CELL_BYTES * len(names), 4 * len(names)  # as JSON, and as a matrix

    def add(self, rows: Rows, matrix: Cells, predictions: Predictions, seconds: float) -> None:
        """Log a request if it is sampled; never blocks. Thread-safe.

        Args:
            rows: Rows of the request.
            matrix: The rows as the model received them.
            predictions: Their predictions, with their tokens.
            seconds: Duration from the start of parsing.
        """
        if self._ratio < 1 and random.random() >= self._ratio:  # noqa: S311 - sampling needs no cryptography
            return
        as_matrix = self._as_matrix and not rows.unseen
        tokens = "".join([token[:TOKEN_PART] for token in predictions.tokens]) if predictions.tokens else ""
        numbers = predictions.numbers
        with self._segments.lock:
            batch = self._segments.batch(self._keys[as_matrix], rows.count * self._row_bytes[as_matrix])
            if batch is None:
                return
            batch.times.append(time.time())
            batch.seconds.append(seconds)
            batch.counts.append(rows.count)
            batch.request_ids.append(REQUEST_ID.get())
            batch.owners.append(CALLER.get())
            batch.tokens.append(tokens)
            batch.rows.append(matrix if as_matrix else rows.payload)
            batch.outputs.append(predictions.values if numbers is None else numbers)

    def row_bytes(self, *, as_matrix: bool) -> int:
        """Return the size of a row in the queue, in bytes."""
        return self._row_bytes[as_matrix]

    def describe(self, number: int) -> LoggedModel:
        """Return the model, with the number that its blocks have in the segment."""
        model, output = self._model, self._model.output
        found = [model.signature.columns[place] for place in self._kept]
        columns = tuple(
            LoggedColumn(each.name, each.type, each.categories, each.largest == FLOAT32_MAX, bool(each.shape))
            for each in found
        )
        return LoggedModel(
            number,
            model.provenance.name,
            model.provenance.version,
            model.sha256,
            columns,
            output.task,
            output.form,
            output.classes,
            output.width,
            output.names,
        )

    def block(self, number: int, kind: bool, batch: Batch) -> tuple[LoggedPredictions, int]:
        """Return the block of a batch whose rows are all matrices (`kind`) or all JSON, and how many were unusable."""
        matrix, received = b"", len(batch)
        cells: list[bytes] = []
        if kind:
            matrix = _joined(batch.rows)
            if self._redacts:
                whole = np.frombuffer(matrix, np.float32).reshape(-1, len(self._model.signature.names))
                matrix = whole[:, self._kept].tobytes()
        else:
            cells, batch = self._readable(batch)
        numeric = bool(batch.outputs) and isinstance(batch.outputs[0], np.ndarray)
        block = LoggedPredictions(
            model=number,
            times=batch.times.tobytes(),
            seconds=batch.seconds.tobytes(),
            counts=batch.counts.tobytes(),
            request_ids=batch.request_ids,
            owners=batch.owners,
            tokens=batch.tokens,
            matrix=matrix,
            cells=cells,
            numbers=_joined(batch.outputs) if numeric else b"",
            values=[] if numeric else [orjson.dumps(each) for each in batch.outputs],
        )
        return block, received - len(batch)

    def _readable(self, batch: Batch) -> tuple[list[bytes], Batch]:
        """Return the rows of each request as JSON, and the batch without the requests that have no such form."""
        cells, usable = [], Batch()
        for place, payload in enumerate(batch.rows):
            try:
                cells.append(self._cells(payload()))
            except Exception:  # one request must not cost the others
                log.error("a request cannot be written to the inference log", exc_info=True)
                continue
            for field in Batch.__slots__:
                getattr(usable, field).append(getattr(batch, field)[place])
        return cells, usable

    def _cells(self, body: dict[str, Any]) -> bytes:
        """Return the rows of a body as a JSON list of lists, in the order of the columns that are not redacted."""
        found = body.get("instances")
        rows = body["data"] if found is None else found
        given = body.get("columns", self._model.signature.names)
        names = [self._model.signature.names[place] for place in self._kept]
        places = {name: place for place, name in enumerate(given)}
        order = [places.get(name) for name in names]
        return orjson.dumps(
            [
                [row.get(name) for name in names]
                if isinstance(row, dict)
                else [None if place is None else row[place] for place in order]
                for row in rows
            ]
        )


def _joined(arrays: list[Matrix]) -> bytes:
    """Return the bytes of all rows of 32-bit numbers, in their order."""
    try:
        return b"".join(arrays)
    except TypeError:  # one is not contiguous
        return np.concatenate(arrays).tobytes()
