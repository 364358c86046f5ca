"""The application: all parts of the service in one process with one event loop."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_exporter import PrometheusMiddleware

from app import __version__
from app.endpoints import health, metrics, model, openapi, protocols
from app.endpoints.explain import EXPLAIN, Explain
from app.endpoints.feedback import FEEDBACK, FeedbackEndpoint
from app.endpoints.predict import Predict
from app.errors import ProblemError, problem_document, problem_response
from app.http import auth, cors, pages
from app.http.callers import Callers
from app.http.front import PREDICT, Direct, Front
from app.http.monitoring import MonitoringServer
from app.http.server import make_server
from app.http.tracing import Tracing
from app.service import Service
from app.settings import Settings
from app.startup import read_settings

log = logging.getLogger(__name__)


class Application(FastAPI):
    """The FastAPI application, behind app.http.front.

    Args:
        service: State of the process, with the model.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(
            title=settings.served_name,
            description="Predictions of one MLflow model.",
            version=__version__,
            lifespan=_lifespan,
            docs_url=None,  # served by app.http.pages
            redoc_url=None,
            redirect_slashes=False,  # a redirect would name http:// behind a proxy that terminates TLS
            telemetry={"tracing": False, "metrics": False, "logs": False},  # app.http.tracing covers more requests
        )
        self.state.service = service
        application: ASGIApp = super().__call__
        predict = Predict(service)
        self.include_router(model.router)
        if settings.pages_enabled:
            self.router.routes.extend(pages.routes())
        monitored: FastAPI = self
        if settings.monitoring_port:
            monitored = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
            monitored.state.service = service
            monitored.add_exception_handler(HTTPException, _answer_http_error)
        self.state.monitoring = MonitoringServer(monitored, service) if settings.monitoring_port else None
        monitored.include_router(health.router)
        monitored.add_route(metrics.METRICS, metrics.Metrics().answer, include_in_schema=False)
        # The front handles POST requests; the route rejects all other methods.
        self.router.routes.append(Route(PREDICT, predict, methods=["POST"], include_in_schema=False))
        self.router.routes.append(Route(EXPLAIN, Explain(service), methods=["POST"], include_in_schema=False))
        if settings.feedback_keys_dir:
            route = Route(FEEDBACK, FeedbackEndpoint(service), methods=["POST"], include_in_schema=False)
            self.router.routes.append(route)
        enabled = protocols.enabled_protocols(service)
        for each in enabled:
            self.router.routes.extend(each.routes)
        direct = [Direct(PREDICT, predict, PREDICT), *(found for each in enabled for found in each.direct)]
        callers = Callers(settings)
        application = auth.Guard(application, callers, settings)
        direct = [replace(each, app=auth.Guard(each.app, callers, settings)) for each in direct]
        if settings.cors_origins:
            application = cors.allowing(application, settings.cors_origins)
            direct = [replace(each, app=cors.allowing(each.app, settings.cors_origins)) for each in direct]
        self.add_exception_handler(ProblemError, _answer_problem)
        self.add_exception_handler(HTTPException, _answer_http_error)
        self.add_exception_handler(Exception, _answer_bug)
        exporter = PrometheusMiddleware(
            application,
            app_name=settings.app_name,
            prefix="http_server",
            buckets=sorted({*settings.latency_buckets, settings.latency_objective_seconds}),
            group_paths=True,
            # Filtering would drop every request that is rejected before it reaches a route.
            filter_unhandled_paths=False,
            group_unhandled_paths=True,
            skip_paths=["/metrics", "/health.*"],
            always_use_int_status=True,
        )
        error_formats = {part: each.error_format for each in enabled for part in each.parts}
        self._front: ASGIApp = Front(exporter, direct, settings.root_path, exporter, error_formats)
        self.state.tracing = Tracing(self._front, settings) if settings.otlp_endpoint else None
        if self.state.tracing:
            self._front = self.state.tracing
        self.state.grpc = None
        if settings.grpc_port:
            from app.grpc.server import GrpcServer

            self.state.grpc = GrpcServer(service, callers, exporter, self.state.tracing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass every request to the front first, because FastAPI looks up its telemetry before any middleware."""
        await self._front(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the current OpenAPI document, which changes when the model is loaded."""
        return openapi.document(self, self.state.service)


def create_app(settings: Settings, on_failure: Callable[[str], None] | None = None) -> Application:
    """Return the application, which loads the model when it starts.

    Args:
        settings: Settings of the service.
        on_failure: Called if the model cannot be loaded.
    """
    return Application(Service(settings, on_failure))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if app.state.monitoring:
        app.state.monitoring.start()
    if app.state.grpc:
        await app.state.grpc.start()
    app.state.service.start()
    yield
    app.state.service.drain()
    if app.state.grpc:
        await app.state.grpc.stop()
    if app.state.monitoring:
        app.state.monitoring.stop()
    if app.state.tracing:
        app.state.tracing.close()
    app.state.service.close()


def main() -> int:
    """Serve until a signal, and return the exit status: 1 if the settings are invalid or the model cannot be loaded."""
    settings = read_settings()
    if settings is None:
        return 1
    failures: list[str] = []

    def stop(sentence: str) -> None:
        failures.append(sentence)
        server.should_exit = True

    app = create_app(settings, stop)
    server = make_server(app, app.state.service)
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
    detail = "The service failed; see its log."
    return problem_response(problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))
