"""Base class of the endpoints that run the model: from the request body to the response or an error."""

import asyncio
import contextvars
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.accounts import Account
from app.errors import (
    CLIENT_CLOSED_REQUEST,
    CellError,
    ClientGoneError,
    ModelFaultError,
    NotReadyError,
    ProblemError,
    TimedOutError,
    problem_document,
    problem_response,
)
from app.http import body, codings
from app.http.tracing import note
from app.limits import Limits
from app.loaded import Loaded
from app.monitoring.model_metrics import ModelMetrics
from app.monitoring.observations import Observations
from app.service import Service
from app.settings import Settings

Work = Callable[[], bytes]
Reply = tuple[list[tuple[bytes, bytes]], bytes]  # headers and body of a successful response

SLICE_ROWS = 128  # of a response that are written in one call

log = logging.getLogger(__name__)


class Endpoint(ABC):
    """An endpoint that runs the model. It is plain ASGI, because FastAPI's routes and models cost more than the trees.

    Args:
        service: State of the process, with the model.
        limits: Concurrency limits.
        threads: Threads for work that would block the event loop.
    """

    media: ClassVar[body.Media] = body.JSON
    vary: ClassVar[bytes] = b"Accept-Encoding"  # headers of the request that decide the form of a response

    def __init__(self, service: Service, limits: Limits, threads: ThreadPoolExecutor) -> None:
        self._service = service
        self._settings = service.settings
        self._limits = limits
        self._threads = threads

    @abstractmethod
    async def work(self, loaded: Loaded, received: body.Body, owner: Account) -> bytes | Work:
        """Return the response body, or a callable that computes it in a thread.

        Nothing here may run on the event loop whose duration grows with a body that is not `small`.

        Raises:
            ProblemError: The request is invalid, or the model failed.
        """

    def check(self, scope: Scope) -> None:  # noqa: B027 - most endpoints have nothing to check
        """Check the path before the body is read.

        Raises:
            ProblemError: The path is invalid.
        """

    @abstractmethod
    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record how long the request waited in the queue."""

    @abstractmethod
    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Count a failed request by its reason, one of `model_metrics.REASONS`, and the first invalid cells."""

    def headers(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers that describe the body of a successful response, before it is compressed."""
        del content
        return [(b"content-type", b"application/json")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; never raises."""
        loaded = self._service.loaded
        try:
            if loaded is None:
                raise NotReadyError
            headers, content = await self._answer(loaded, scope, receive)
        except ProblemError as problem:
            if problem.reason and loaded:
                self.failed(loaded, problem.reason, problem.errors)
            answer = problem_response(problem.document(), problem.headers)
        except ClientGoneError:
            if loaded:
                self.failed(loaded, "cancelled")
            answer = Response(status_code=CLIENT_CLOSED_REQUEST)
        except Exception:
            log.error("unexpected failure in a prediction", exc_info=True)
            detail = "The service failed; see its log."
            answer = problem_response(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
        else:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
            return
        await answer(scope, receive, send)

    async def _answer(self, loaded: Loaded, scope: Scope, receive: Receive) -> Reply:
        settings = self._settings
        owner = scope["account"]
        if self._limits.full(owner):  # before a byte of the body is read
            await self._limits.refuse(owner)
        self.check(scope)
        received = await body.read(scope, receive, settings.max_body_bytes, settings.body_timeout_seconds, self.media)
        coding, least = codings.chosen(received.accept_encoding)
        begin = time.perf_counter()
        if not self._limits.enter(owner):
            await self._limits.wait(owner, receive)
        self.waited(loaded.metrics, begin)
        release: Callable[[], None] | None = partial(self._limits.leave, owner)
        try:
            found = await self.work(loaded, received, owner)
            if isinstance(found, bytes) and (not coding or len(found) <= body.INLINE_BYTES):
                return self._reply(found, coding, least)

            def reply() -> Reply:
                return self._reply(found if isinstance(found, bytes) else found(), coding, least)

            release = None  # the thread releases the slot, because it continues after the request has timed out
            left = settings.request_timeout_seconds - (time.perf_counter() - begin)
            return await self._in_thread(reply, left, owner)
        finally:
            if release:
                release()

    def _reply(self, content: bytes, coding: str, least: int) -> Reply:
        """Return the response, compressed if it has the size from which the coding applies."""
        headers = [*self.headers(content), (b"vary", self.vary)]
        if coding and len(content) >= least:
            content = codings.encoded(content, coding)
            headers.append((b"content-encoding", coding.encode()))
        headers.append((b"content-length", str(len(content)).encode()))
        return headers, content

    async def _in_thread(self, work: Callable[[], Reply], seconds: float, owner: Account) -> Reply:
        """Run the work in a thread with a time limit. The slot is released when the work ends, not the wait."""
        loop = asyncio.get_running_loop()

        def end(_: Future[Reply]) -> None:
            with suppress(RuntimeError):  # the loop is closed while the process exits
                loop.call_soon_threadsafe(self._limits.leave, owner)

        job = self._threads.submit(contextvars.copy_context().run, work)
        job.add_done_callback(end)
        done, _ = await asyncio.wait({future := asyncio.wrap_future(job)}, timeout=max(seconds, 0))
        if not done:
            future.cancel()  # has an effect only while the work waits for a thread
            raise timed_out(self._settings)
        return future.result()


def json_list(values: list[Any]) -> Any:
    """Return a list for `orjson.dumps`. A long one is written in slices, because a call holds the interpreter."""
    if len(values) <= SLICE_ROWS:
        return values
    parts = (orjson.dumps(values[start : start + SLICE_ROWS]) for start in range(0, len(values), SLICE_ROWS))
    return orjson.Fragment(b"[" + b",".join(part[1:-1] for part in parts) + b"]")


def took(seconds: Observations, stage: str, begin: float) -> None:
    """Record the duration of a stage as a metric and on the request's span.

    Args:
        seconds: Metric of the stage.
        stage: Name of the stage.
        begin: Start of the stage by time.perf_counter().
    """
    spent = time.perf_counter() - begin
    seconds.observe(spent)
    note(f"{stage}_seconds", spent)


def fault(error: Exception, count: int) -> ModelFaultError:
    """Log the exception that the model raised on valid rows, and return the error for the client."""
    log.error("the model failed on valid input", exc_info=error, extra={"rows": count})
    return ModelFaultError("The model failed on this input; see the log of the service.")


def timed_out(settings: Settings) -> TimedOutError:
    """Return the error for a prediction that timed out."""
    return TimedOutError(f"The request took longer than {settings.request_timeout_seconds:g} s; send fewer rows.")
