"""Answer POST /predict: an ASGI endpoint, because routes, body models and response models cost more than the trees."""

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from prometheus_client import Histogram
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import body
from app.booster import Matrix
from app.errors import (
    ClientGoneError,
    ModelFaultError,
    NotReadyError,
    ProblemError,
    TimedOutError,
    problem_document,
    problem_response,
)
from app.loading import Loaded, Service
from app.rows import Rows
from app.tracing import note

# A hop to a thread costs about 0.1 ms. 100 rows take 0.4 ms with 100 trees and 1.5 ms with 500: up to here the
# hop would cost more than it spares the other requests, beyond it the event loop has to stay free.
INLINE_ROWS = 100
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read it, but the metrics count it

log = logging.getLogger(__name__)


class Predict:
    """POST /predict of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.limits
        self._settings = service.settings
        # As many as can run: more would only take turns, each with its matrix in memory.
        self._threads = ThreadPoolExecutor(os.process_cpu_count(), "predict")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with predictions or a problem; never raise."""
        loaded = self._service.loaded
        try:
            if loaded is None:
                raise NotReadyError
            content = await self._answer(loaded, scope, receive)
        except ProblemError as problem:
            if problem.reason and loaded:
                loaded.metrics.errors[problem.reason].inc()
            answer = problem_response(problem.document(), problem.headers)
        except ClientGoneError:
            if loaded:
                loaded.metrics.errors["cancelled"].inc()
            answer = Response(status_code=CLIENT_CLOSED_REQUEST)
        except Exception:
            log.error("unexpected failure in a prediction", exc_info=True)
            detail = "The service failed; its log says where."
            answer = problem_response(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
            return
        await answer(scope, receive, send)

    async def _answer(self, loaded: Loaded, scope: Scope, receive: Receive) -> bytes:
        settings = self._settings
        if self._limits.full:  # before a byte of the body is read
            await self._limits.refuse()
        content = await body.read(scope, receive, settings.max_body_bytes, settings.body_timeout_seconds)
        begin = time.perf_counter()
        if not self._limits.enter():
            await self._limits.wait(receive)
        _took(loaded.metrics.queue, "queue", begin)
        release: Callable[[], None] | None = self._limits.leave
        try:
            start = time.perf_counter()
            rows = loaded.reader.read(content)
            read = time.perf_counter() - start
            note("rows", rows.count)
            if rows.count <= INLINE_ROWS:
                return _content(loaded, await _coalesced(loaded, rows, read), rows)
            release = None  # the thread's from now on: it goes on when we stop waiting
            left = settings.request_timeout_seconds - (time.perf_counter() - begin)
            return await self._in_thread(partial(_alone, loaded, rows, read), left)
        finally:
            if release:
                release()

    async def _in_thread(self, work: Callable[[], bytes], seconds: float) -> bytes:
        """Run the work in a thread and wait for it so long; the slot is free when the work ends, not the wait."""
        loop = asyncio.get_running_loop()

        def end(_: Future[bytes]) -> None:
            with suppress(RuntimeError):  # the loop was closed: the process ends
                loop.call_soon_threadsafe(self._limits.leave)

        job = self._threads.submit(contextvars.copy_context().run, work)
        job.add_done_callback(end)
        done, _ = await asyncio.wait({future := asyncio.wrap_future(job)}, timeout=max(seconds, 0))
        if not done:
            future.cancel()  # ends the work only while it waits for its thread
            limit = self._settings.request_timeout_seconds
            raise TimedOutError(f"There was no prediction within {limit:g} s; send fewer rows.")
        return future.result()


async def _coalesced(loaded: Loaded, rows: Rows, read: float) -> list[Any]:
    """Validate here, so that nobody's bad row is anybody else's, and predict with others."""
    matrix = _validated(loaded, rows, read)
    begin = time.perf_counter()
    try:
        predictions = await loaded.coalescer.predict(matrix)  # which observes the call itself, without the wait for it
    except Exception as error:
        raise _fault(error, rows.count) from error
    note("predict_seconds", time.perf_counter() - begin)
    return predictions


def _alone(loaded: Loaded, rows: Rows, read: float) -> bytes:
    """Validate, predict and write the answer; runs in a thread."""
    matrix = _validated(loaded, rows, read)
    begin = time.perf_counter()
    try:
        predictions = loaded.model.predict(matrix)
    except Exception as error:
        raise _fault(error, rows.count) from error
    _took(loaded.metrics.predict, "predict", begin)
    return _content(loaded, predictions, rows)


def _validated(loaded: Loaded, rows: Rows, read: float) -> Matrix:
    begin = time.perf_counter() - read
    matrix = rows.matrix()
    _took(loaded.metrics.validate, "validate", begin)
    return matrix


def _content(loaded: Loaded, predictions: list[Any], rows: Rows) -> bytes:
    """Write the answer, and the payload log where it is on."""
    begin = time.perf_counter()
    name = {"name": loaded.model.provenance.name, "version": loaded.model.provenance.version}
    content = orjson.dumps({"model": name, "predictions": predictions})
    _took(loaded.metrics.respond, "respond", begin)
    loaded.metrics.predictions.inc(len(predictions))
    if loaded.payloads:
        loaded.payloads.offer(rows.payload, predictions)
    return content


def _took(seconds: Histogram, stage: str, begin: float) -> None:
    """Record the time of a stage that began then, as a metric and on the request's span."""
    took = time.perf_counter() - begin
    seconds.observe(took)
    note(f"{stage}_seconds", took)


def _fault(error: Exception, count: int) -> ModelFaultError:
    log.error("the model failed on valid input", exc_info=error, extra={"rows": count})
    return ModelFaultError("The model failed on this input; the service's log says where.")
