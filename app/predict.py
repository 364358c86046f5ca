"""Answer POST /predict: few rows with other requests on the event loop, many alone in a thread."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
from starlette.types import Scope

from app.columns import UNKNOWN_CATEGORY
from app.endpoint import Endpoint, Work, fault, took
from app.errors import CellError, ProblemError
from app.loading import Loaded, Service
from app.metrics import ModelMetrics
from app.rows import Rows
from app.signature import Cells
from app.tracing import note

# A hop to a thread costs about 0.1 ms. 100 rows take 0.4 ms with 100 trees and 1.5 ms with 500: up to here the
# hop would cost more than it spares the other requests, beyond it the event loop has to stay free.
INLINE_ROWS = 100
# As many as can run, of whatever protocol: more would only take turns, each with its matrix in memory.
_THREADS = ThreadPoolExecutor(os.process_cpu_count(), "predict")


class Predict(Endpoint):
    """POST /predict of a service."""

    def __init__(self, service: Service) -> None:
        super().__init__(service, service.limits, _THREADS)

    async def work(self, loaded: Loaded, content: bytes, scope: Scope) -> bytes | Work:
        """Return predictions, or what makes them from so many rows that the event loop must not."""
        start = time.perf_counter()
        rows = self.read(loaded, content, scope)
        read = time.perf_counter() - start
        note("rows", rows.count)
        if rows.count <= INLINE_ROWS and loaded.model.inline:
            return self._content(loaded, await _coalesced(loaded, rows, read), rows)
        return partial(self._alone, loaded, rows, read)

    def read(self, loaded: Loaded, content: bytes, scope: Scope) -> Rows:
        """Return the rows of a body; other protocols say them otherwise."""
        del scope
        return loaded.reader.read(content)

    def write(self, loaded: Loaded, predictions: list[Any], rows: Rows) -> bytes:
        """Return the answer."""
        del rows
        answer = {"model": loaded.model.provenance.identity, "predictions": predictions}
        if loaded.feedback:
            answer["tokens"] = loaded.feedback.tokens(predictions)
        return orjson.dumps(answer)

    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record a stage of the prediction."""
        took(metrics.queue, "queue", begin)

    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Count a request without a prediction, and the categories in it that training never saw."""
        loaded.metrics.errors[reason].inc()
        if loaded.drift and cells:
            loaded.drift.count_unseen(cell.column for cell in cells if cell.problem.startswith(UNKNOWN_CATEGORY))

    def _alone(self, loaded: Loaded, rows: Rows, read: float) -> bytes:
        """Validate, predict and write the answer; runs in a thread."""
        matrix = _validated(loaded, rows, read)
        begin = time.perf_counter()
        try:
            predictions = loaded.predict(matrix, rows.parameters)
        except ProblemError:  # the caller's fault, which only the model could see
            raise
        except Exception as error:
            raise fault(error, rows.count) from error
        took(loaded.metrics.predict, "predict", begin)
        return self._content(loaded, predictions, rows)

    def _content(self, loaded: Loaded, predictions: list[Any], rows: Rows) -> bytes:
        """Write the answer, and the payload log where it is on."""
        begin = time.perf_counter()
        content = self.write(loaded, predictions, rows)
        took(loaded.metrics.respond, "respond", begin)
        loaded.metrics.predicted(len(predictions))
        if loaded.payloads:
            loaded.payloads.offer(rows.payload, predictions)
        return content


async def _coalesced(loaded: Loaded, rows: Rows, read: float) -> list[Any]:
    """Validate here, so that nobody's bad row is anybody else's, and predict with others."""
    matrix = _validated(loaded, rows, read)
    begin = time.perf_counter()
    try:
        predictions = await loaded.coalescer.predict(matrix)  # which observes the call itself, without the wait for it
    except Exception as error:
        raise fault(error, rows.count) from error
    note("predict_seconds", time.perf_counter() - begin)
    return predictions


def _validated(loaded: Loaded, rows: Rows, read: float) -> Cells:
    begin = time.perf_counter() - read
    matrix = rows.matrix()
    took(loaded.metrics.validate, "validate", begin)
    return matrix
