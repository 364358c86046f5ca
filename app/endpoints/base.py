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
from typing import ClassVar

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
from app.http import body
from app.http.tracing import note
from app.limits import Limits
from app.loaded import Loaded
from app.monitoring.model_metrics import ModelMetrics
from app.monitoring.observations import Observations
from app.service import Service
from app.settings import Settings

Work = Callable[[], bytes]

log = logging.getLogger(__name__)


class Endpoint(ABC):
    """An endpoint that runs the model. It is plain ASGI, because FastAPI's routes and models cost more than the trees.

    Args:
        service: State of the process, with the model.
        limits: Concurrency limits.
        threads: Threads for work that would block the event loop.
    """

    media: ClassVar[body.Media] = body.JSON

    def __init__(self, service: Service, limits: Limits, threads: ThreadPoolExecutor) -> None:
        self._service = service
        self._settings = service.settings
        self._limits = limits
        self._threads = threads

    @abstractmethod
    async def work(self, loaded: Loaded, content: bytes, scope: Scope) -> bytes | Work:
        """Return the response body, or a callable that computes it in a thread.

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
        """Return the headers of a successful response."""
        return [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; never raises."""
        loaded = self._service.loaded
        try:
            if loaded is None:
                raise NotReadyError
            content = await self._answer(loaded, scope, receive)
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
            await send({"type": "http.response.start", "status": 200, "headers": self.headers(content)})
            await send({"type": "http.response.body", "body": content})
            return
        await answer(scope, receive, send)

    async def _answer(self, loaded: Loaded, scope: Scope, receive: Receive) -> bytes:
        settings = self._settings
        owner = scope["account"]
        if self._limits.full(owner):  # before a byte of the body is read
            await self._limits.refuse(owner)
        self.check(scope)
        content = await body.read(scope, receive, settings.max_body_bytes, settings.body_timeout_seconds, self.media)
        begin = time.perf_counter()
        if not self._limits.enter(owner):
            await self._limits.wait(owner, receive)
        self.waited(loaded.metrics, begin)
        release: Callable[[], None] | None = partial(self._limits.leave, owner)
        try:
            work = await self.work(loaded, content, scope)
            if isinstance(work, bytes):
                return work
            release = None  # the thread releases the slot, because it continues after the request has timed out
            left = settings.request_timeout_seconds - (time.perf_counter() - begin)
            return await self._in_thread(work, left, owner)
        finally:
            if release:
                release()

    async def _in_thread(self, work: Work, seconds: float, owner: Account) -> bytes:
        """Run the work in a thread with a time limit. The slot is released when the work ends, not the wait."""
        loop = asyncio.get_running_loop()

        def end(_: Future[bytes]) -> None:
            with suppress(RuntimeError):  # the loop is closed while the process exits
                loop.call_soon_threadsafe(self._limits.leave, owner)

        job = self._threads.submit(contextvars.copy_context().run, work)
        job.add_done_callback(end)
        done, _ = await asyncio.wait({future := asyncio.wrap_future(job)}, timeout=max(seconds, 0))
        if not done:
            future.cancel()  # has an effect only while the work waits for a thread
            raise timed_out(self._settings)
        return future.result()


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
