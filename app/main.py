"""Put the service together and run it: one process, one event loop."""

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
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_exporter import PrometheusMiddleware

from app import __version__, api, auth, logs, metrics, openapi
from app.errors import ProblemError, problem_document, problem_response
from app.front import PREDICT, Front, PredictSeries
from app.loading import Service, leave_message
from app.predict import Predict
from app.settings import Settings, describe
from app.tracing import Tracing

log = logging.getLogger(__name__)


class Application(FastAPI):
    """The FastAPI application, behind its front.

    Args:
        service: what it serves.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(
            title=settings.served_name,
            description="Predictions of one MLflow model.",
            version=__version__,
            lifespan=_lifespan,
            telemetry={"tracing": False, "metrics": False, "logs": False},  # app.tracing sees what it does not
        )
        self.state.service = service
        application: ASGIApp = super().__call__
        predict: ASGIApp = Predict(service)
        self.include_router(api.router)
        self.add_route("/metrics", metrics.metrics_endpoint, include_in_schema=False)
        # The front takes the POSTs; the route is for what else is tried.
        self.router.routes.append(Route(PREDICT, predict, methods=["POST"], include_in_schema=False))
        if settings.api_keys_dir:
            known = auth.Keys(settings.api_keys_dir)
            application = auth.Guard(application, known, settings.root_path)
            predict = auth.Guard(predict, known, settings.root_path)
        self.add_exception_handler(ProblemError, _answer_problem)
        self.add_exception_handler(HTTPException, _answer_http_error)
        self.add_exception_handler(Exception, _answer_bug)
        exporter = PrometheusMiddleware(
            application,
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
        self._front: ASGIApp = Front(exporter, predict, settings.root_path + PREDICT, PredictSeries(exporter))
        self.state.tracing = Tracing(self._front, settings) if settings.otlp_endpoint else None
        if self.state.tracing:
            self._front = self.state.tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the front see every request first: FastAPI looks up its telemetry for each before any middleware."""
        await self._front(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Describe the API as it is now: the model may have been loaded since."""
        return openapi.document(self, self.state.service)


def create_app(settings: Settings, on_failure: Callable[[str], None] | None = None) -> Application:
    """Build the application; its lifespan loads the model.

    Args:
        settings: what to serve.
        on_failure: called when the model will not load.
    """
    return Application(Service(settings, on_failure))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.service.start()
    yield
    app.state.service.drain()
    if app.state.tracing:
        app.state.tracing.close()


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


def make_server(app: Application) -> Server:
    """Return the HTTP server, which does not listen yet."""
    service: Service = app.state.service
    settings = service.settings
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
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
    return Server(config, service)


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

    server = make_server(create_app(settings, stop))
    server.run()
    return 1 if failures else 0


async def _answer_problem(_: Request, error: Exception) -> Response:
    problem = cast(ProblemError, error)
    return problem_response(problem.document(), problem.headers)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    status = HTTPStatus(known.status_code)
    return problem_response(problem_document(status, "", str(known.detail)), dict(known.headers or {}))


async def _answer_bug(_: Request, __: Exception) -> Response:
    detail = "The service failed; its log says where."
    return problem_response(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
