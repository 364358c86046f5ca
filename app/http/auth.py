"""The layer in front of all paths that lets in a request if its caller is known and has not used up its quota."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ProblemError, UnknownKeyError, problem_response
from app.http import pages
from app.http.callers import Callers
from app.settings import Settings

# Paths that Kubernetes and Prometheus request without a key. They reveal nothing about the model's data.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


class Guard:
    """ASGI middleware that finds the account of the caller, charges it for POST requests and refuses all others.

    Args:
        app: Application behind the guard, which finds the account in the scope as `account`.
        callers: Accounts, shared by all guards.
        settings: Path prefix that the proxy strips, and whether the pages are enabled.
        charged: Whether POST requests are charged.
    """

    def __init__(self, app: ASGIApp, callers: Callers, settings: Settings, *, charged: bool = True) -> None:
        self._app = app
        self._charged = charged
        self._callers = callers
        open_paths = OPEN_PATHS | pages.OPEN_PATHS if settings.pages_enabled else OPEN_PATHS
        self._open = frozenset(settings.root_path + path for path in open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it without revealing what is wrong with its key."""
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        try:
            try:
                account = self._callers.identify(scope, now := time.monotonic())
            except UnknownKeyError:
                await self._callers.learn()
                account = self._callers.identify(scope, now := time.monotonic(), learned=True)
            scope["account"] = account
            if self._charged and scope["method"] == "POST":
                account.request(now)
        except ProblemError as problem:
            await problem_response(problem.document(), problem.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)
