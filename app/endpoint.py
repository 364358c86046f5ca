"""What the endpoints that run the model share: one caller's way from the body to the answer or to a problem."""

import asyncio
import contextvars
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import body
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
from app.limits import Limits
from app.loading import Loaded, Service
from app.metrics import ModelMetrics
from app.observations import Observations
from app.settings import Settings
from app.tracing import note

Work = Callable[[], bytes]

log = logging.getLogger(__name__)


class Endpoint(ABC):
    """An ASGI endpoint, because routes, body models and response models cost more than the trees.

    Args:
        service: whose model answers.
        limits: how many requests work at once.
        threads: of those whose work is not for the event loop.
    """

    media: ClassVar[body.Media] = body.JSON

    def __init__(self, service: Service, limits: Limits, threads: ThreadPoolExecutor) -> None:
        self._service = service
        self._settings = service.settings
        self._limits = limits
        self._threads = threads

    @abstractmethod
    async def work(self, loaded: Loaded, content: bytes, scope: Scope) -> bytes | Work:
        """Return the answer to a body, or the work that is left for a thread, which returns it.

        Raises:
            ProblemError: the body is wrong, or the model failed.
        """

    def check(self, scope: Scope) -> None:  # noqa: B027 - most paths are right when they lead here
        """Refuse, before a byte of the body is read, what the path alone says is wrong.

        Raises:
            ProblemError: it is.
        """

    @abstractmethod
    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record that a request has its turn now that it has waited for since then."""

    @abstractmethod
    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Count a request that got no answer, for one of `metrics.REASONS`, and the first cells that were wrong."""

    def headers(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer."""
        return [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; never raise."""
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
            detail = "The service failed; its log says where."
            answer = problem_response(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
        else:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers(content)})
            await send({"type": "http.response.body", "body": content})
            return
        await answer(scope, receive, send)

    async def _answer(self, loaded: Loaded, scope: Scope, receive: Receive) -> bytes:
        settings = self._settings
        if self._limits.full:  # before a byte of the body is read
            await self._limits.refuse()
        self.check(scope)
        content = await body.read(scope, receive, settings.max_body_bytes, settings.body_timeout_seconds, self.media)
        begin = time.perf_counter()
        if not self._limits.enter():
            await self._limits.wait(receive)
        self.waited(loaded.metrics, begin)
        release: Callable[[], None] | None = self._limits.leave
        try:
            work = await self.work(loaded, content, scope)
            if isinstance(work, bytes):
                return work
            release = None  # the thread's from now on: it goes on when we stop waiting
            left = settings.request_timeout_seconds - (time.perf_counter() - begin)
            return await self._in_thread(work, left)
        finally:
            if release:
                release()

    async def _in_thread(self, work: Work, seconds: float) -> bytes:
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
            raise timed_out(self._settings)
        return future.result()


def took(seconds: Observations, stage: str, begin: float) -> None:
    """Record the time of a stage that began then, as a metric and on the request's span."""
    spent = time.perf_counter() - begin
    seconds.observe(spent)
    note(f"{stage}_seconds", spent)


def fault(error: Exception, count: int) -> ModelFaultError:
    """Log what the model raised on so many valid rows, and return what the caller is told."""
    log.error("the model failed on valid input", exc_info=error, extra={"rows": count})
    return ModelFaultError("The model failed on this input; the service's log says where.")


def timed_out(settings: Settings) -> TimedOutError:
    """Return what a caller is told whose rows take too long."""
    return TimedOutError(f"There was no answer within {settings.request_timeout_seconds:g} s; send fewer rows.")
