"""Put the service together and run it: one process, one event loop."""

import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette_exporter import PrometheusMiddleware

from app import __version__, api, logs, metrics
from app.errors import ProblemError, problem_document
from app.loading import Service, leave_message
from app.settings import Settings, describe

CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read it, but the metrics count it

log = logging.getLogger(__name__)


def create_app(settings: Settings, on_failure: Callable[[str], None] | None = None) -> FastAPI:
    """Build the application; its lifespan loads the model.

    Args:
        settings: what to serve.
        on_failure: called when the model will not load.
    """
    service = Service(settings, on_failure)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.drain()

    app = FastAPI(
        title=settings.served_name,
        description="Predictions of one MLflow model.",
        version=__version__,
        root_path=settings.root_path,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(api.router)
    app.add_route("/metrics", metrics.metrics_endpoint, include_in_schema=False)
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_bug)
    app.add_middleware(
        PrometheusMiddleware,
        app_name=settings.app_name,
        prefix="http_server",
        buckets=settings.latency_buckets,
        group_paths=True,
        # Filtering would drop everything that is refused before it reaches a route.
        filter_unhandled_paths=False,
        group_unhandled_paths=True,
        skip_paths=["/metrics", "/health.*"],
        always_use_int_status=True,
    )
    refusal = problem_document(HTTPStatus.METHOD_NOT_ALLOWED, "", "This method is not served anywhere.")
    app.add_middleware(metrics.MethodGuard, refusal=_problem(refusal))  # added last, so it is the outermost
    return app


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM also turns the readiness off and afterwards ends with status 0.

    uvicorn itself would raise the signal again, so that a drained pod looked like a killed one.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Begin to drain; a second Ctrl-C does not wait for requests."""
        self._service.drain()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main() -> int:
    """Serve until a signal, and return the exit status: 1 when the model would not load."""
    logs.configure("info")
    try:
        settings = Settings()
    except ValidationError as error:
        sentence = describe(error)
        log.error(sentence)
        leave_message(Path(os.environ.get("MODEL_SERVICE_TERMINATION_MESSAGE_PATH", "/dev/termination-log")), sentence)
        return 1
    logs.configure(settings.log_level)
    failures: list[str] = []

    def stop(sentence: str) -> None:
        failures.append(sentence)
        server.should_exit = True

    app = create_app(settings, stop)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",  # refuses malformed methods, which h11 hands on
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = Server(config, app.state.service)
    server.run()
    return 1 if failures else 0


def _problem(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    # ASCII, because a column's name in a body may be half a surrogate pair, which UTF-8 cannot hold.
    content = json.dumps(document).encode("ascii")
    return Response(content, document["status"], headers, media_type="application/problem+json")


async def _answer_problem(_: Request, error: Exception) -> Response:
    problem = cast(ProblemError, error)
    return _problem(problem.document(), problem.headers)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    status = HTTPStatus(known.status_code)
    return _problem(problem_document(status, "", str(known.detail)), dict(known.headers or {}))


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer_bug(_: Request, __: Exception) -> Response:
    detail = "The service failed; its log says where."
    return _problem(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
