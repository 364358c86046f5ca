"""Let in who presents one of the API keys: `Authorization: Bearer <key>`.

The keys are what the folder holds now, looked at once a second at most while requests come. A key that was taken away
is refused from then on, even when it was the last one: who takes a key away wants that. Only a folder that cannot be
read at all leaves the keys as they are, because that says nothing about anybody's wish.
"""

import hashlib
import hmac
import logging
import time
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from app import keys, pages
from app.errors import UnauthorizedError, problem_response
from app.logs import CALLER
from app.settings import Settings

# What Kubernetes and Prometheus ask, which have no key; it tells nothing about the model's data.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
REFRESH_SECONDS = 1.0

log = logging.getLogger(__name__)


class Keys:
    """The digests of the keys in a folder.

    Args:
        folder: one key a file; the file's name says whose it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, bytes] = {}
        self._problems: list[str] = []
        self._due = 0.0
        self._refresh()

    def caller(self, key: bytes) -> str | None:
        """Return the name of the key, or None when it is none of ours."""
        if time.monotonic() >= self._due:
            self._refresh()
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._digests.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _refresh(self) -> None:
        self._due = time.monotonic() + REFRESH_SECONDS
        try:
            found, problems = keys.read(self._folder)
        except OSError as error:
            self._warn([f"the folder cannot be read ({error.strerror}), so the keys stay as they were"])
            return
        self._warn(problems if found else [*problems, "there is no usable key, so everybody is refused"])
        digests = {name: hashlib.sha256(key.encode("ascii")).digest() for name, key in found.items()}
        if digests != self._digests:
            self._digests = digests
            log.info("API keys read", extra={"callers": list(digests)})

    def _warn(self, problems: list[str]) -> None:
        """Log what was not logged the last time."""
        if problems != self._problems:
            self._problems = problems
            for problem in problems:
                log.warning("API keys: %s", problem)


class Guard:
    """What stands in front of an application and wants a key, but for the open paths.

    Args:
        app: asked by those who have a key.
        known: the keys.
        settings: what the proxy stripped from all paths, and whether there are pages.
    """

    def __init__(self, app: ASGIApp, known: Keys, settings: Settings) -> None:
        self._app = app
        self._keys = known
        open_paths = OPEN_PATHS | pages.OPEN_PATHS if settings.pages_enabled else OPEN_PATHS
        self._open = frozenset(settings.root_path + path for path in open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the request, or refuse it without a hint what is wrong with its key."""
        if scope["type"] == "http" and scope["path"] not in self._open:
            caller = self._keys.caller(_bearer(scope["headers"]))
            if caller is None:
                refusal = UnauthorizedError()
                await problem_response(refusal.document(), refusal.headers)(scope, receive, send)
                return
            CALLER.set(caller)
        await self._app(scope, receive, send)


def _bearer(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the key that a request presents; empty, which is no key, without one."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
    return b""
