"""The endpoint POST /predict: small requests are predicted together, large ones are processed in a thread."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import orjson

from app.accounts import Account
from app.endpoints import arrow
from app.endpoints.base import Endpoint, Work, fault, json_list, timed_out, took
from app.errors import CellError, ProblemError
from app.http.body import Body, Media
from app.http.tracing import note
from app.loaded import Loaded
from app.model.columns import UNKNOWN_CATEGORY
from app.model.output import Predictions
from app.model.parameters import Parameters
from app.model.pyfunc import PyfuncModel
from app.model.rows import Rows
from app.model.signature import Cells
from app.monitoring.counted import answered
from app.monitoring.model_metrics import ModelMetrics
from app.service import Service

# One thread per CPU, shared by all protocols: more threads would only take turns, each with its matrix in memory.
_THREADS = ThreadPoolExecutor(os.process_cpu_count(), "predict")


class ForArrow(Rows):
    """Rows whose predictions are returned as an Arrow stream."""


class Predict(Endpoint):
    """The endpoint POST /predict."""

    media: ClassVar[Media] = arrow.MEDIA
    vary: ClassVar[bytes] = b"Accept, Accept-Encoding"

    def __init__(self, service: Service) -> None:
        super().__init__(service, service.limits, _THREADS)

    async def work(self, loaded: Loaded, received: Body, owner: Account) -> bytes | Work:
        """Return predictions, or a callable for requests too large for the event loop."""
        start = time.perf_counter()
        if (content := received.small) is None:
            return partial(self._large, loaded, received, owner)
        rows = self._counted(loaded, content, received, owner)
        read = time.perf_counter() - start
        if rows.count > loaded.inline_rows:
            return partial(self._alone, loaded, rows, read)
        matrix = _validated(loaded, rows, read)
        if isinstance(loaded.model, PyfuncModel):
            predictions = await self._by_worker(loaded, loaded.model, matrix, rows.parameters)
        else:
            predictions = await self._coalesced(loaded, matrix)
        return self._content(loaded, predictions, rows, matrix, start)

    def read(self, loaded: Loaded, content: bytes, received: Body) -> Rows:
        """Parse the body, whose content without its coding is given. Other protocols override this method."""
        rows = arrow.rows_of(loaded, content, received.kind, self._settings.max_rows)
        if arrow.wanted(received.accept):
            return ForArrow(rows.count, rows.matrix, rows.payload, rows.parameters, rows.unseen)
        return rows

    def write(self, loaded: Loaded, predictions: Predictions, rows: Rows) -> bytes:
        """Return the response body."""
        if isinstance(rows, ForArrow):
            return arrow.written(loaded, predictions)
        answer: dict[str, Any] = {
            "model": loaded.model.provenance.identity,
            "predictions": json_list(predictions.values),
        }
        if loaded.feedback:
            answer["tokens"] = json_list(loaded.feedback.tokens(predictions))
        return orjson.dumps(answer)

    def headers(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers that describe the body of a successful response, before it is compressed."""
        return (
            [(b"content-type", arrow.ARROW.encode())] if isinstance(content, arrow.Stream) else super().headers(content)
        )

    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record the wait as a stage of the prediction."""
        took(metrics.queue, "queue", begin)

    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Count a failed request and the unseen categories in it."""
        loaded.metrics.errors[reason].inc()
        if loaded.drift and cells:
            loaded.drift.count_unseen(cell.column for cell in cells if cell.problem.startswith(UNKNOWN_CATEGORY))

    def _counted(self, loaded: Loaded, content: bytes, received: Body, owner: Account) -> Rows:
        """Parse the body and charge the caller for its rows, on the event loop or in a thread."""
        rows = self.read(loaded, content, received)
        note("rows", rows.count)
        owner.rows(rows.count)
        return rows

    async def _by_worker(
        self, loaded: Loaded, model: PyfuncModel, matrix: Cells, parameters: Parameters
    ) -> Predictions:
        """Let the worker predict the rows together with other requests."""
        begin = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                answer = await asyncio.wrap_future(model.submit(matrix, parameters))
            predictions = answered(model, loaded.drift, matrix, answer)
        except TimeoutError:
            raise timed_out(self._settings) from None
        except ProblemError:  # the worker restarts, or an error of the client that only MLflow can detect
            raise
        except Exception as error:
            raise fault(error, len(matrix)) from error
        loaded.metrics.predict.observe(answer.seconds)
        note("predict_seconds", time.perf_counter() - begin)
        return predictions

    async def _coalesced(self, loaded: Loaded, matrix: Cells) -> Predictions:
        """Predict the rows together with other requests; a request that fails affects no others."""
        begin = time.perf_counter()
        try:  # the coalescer records the duration of the call without the wait
            if len(self._service.requests) == 1:
                predictions = loaded.coalescer.predict_alone(matrix)
            else:
                predictions = await loaded.coalescer.predict(matrix)
        except Exception as error:
            raise fault(error, len(matrix)) from error
        note("predict_seconds", time.perf_counter() - begin)
        return predictions

    def _large(self, loaded: Loaded, received: Body, owner: Account) -> bytes:
        """Parse, validate and predict a large body in a thread, and return the response body."""
        start = time.perf_counter()
        rows = self._counted(loaded, received.content, received, owner)
        return self._alone(loaded, rows, time.perf_counter() - start)

    def _alone(self, loaded: Loaded, rows: Rows, read: float) -> bytes:
        """Validate and predict the rows in a thread, and return the response body."""
        start = time.perf_counter() - read
        matrix = _validated(loaded, rows, read)
        begin = time.perf_counter()
        try:
            predictions = loaded.predict(matrix, rows.parameters)
        except ProblemError:  # an error of the client that only the model can detect
            raise
        except Exception as error:
            raise fault(error, rows.count) from error
        took(loaded.metrics.predict, "predict", begin)
        return self._content(loaded, predictions, rows, matrix, start)

    def _content(self, loaded: Loaded, predictions: Predictions, rows: Rows, matrix: Cells, start: float) -> bytes:
        """Return the response body, and log the request that was parsed from `start` on, if that is enabled."""
        begin = time.perf_counter()
        content = self.write(loaded, predictions, rows)
        took(loaded.metrics.respond, "respond", begin)
        loaded.metrics.predicted(len(predictions))
        if loaded.payloads:
            loaded.payloads.offer(rows.payload, predictions.values, partial(_challenged, loaded, rows))
        if loaded.inference_log:
            loaded.inference_log.add(rows, matrix, predictions, time.perf_counter() - start)
        return content


def _challenged(loaded: Loaded, rows: Rows, count: int) -> dict[str, list[Any]]:
    """Return the challenger's predictions of the first rows, for the payload log; nothing without a challenger."""
    comparison = loaded.shadow.comparison if loaded.shadow else None
    if comparison is None or comparison.champion is not loaded.model or comparison.failing:
        return {}
    return {f"challenger_{comparison.challenger.provenance.version}": comparison.values(rows.matrix()[:count])}


def _validated(loaded: Loaded, rows: Rows, read: float) -> Cells:
    begin = time.perf_counter() - read
    matrix = rows.matrix()
    if rows.unseen and loaded.drift:
        loaded.drift.count_unseen(rows.unseen)
    took(loaded.metrics.validate, "validate", begin)
    return matrix
