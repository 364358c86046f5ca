"""The endpoint GET /metrics for Prometheus."""

import asyncio
import gzip
import time
from collections.abc import Callable

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from app.http import codings

METRICS = "/metrics"
REST = 20  # a pause after each build, as a multiple of its CPU time: scrapes take at most a twentieth of a CPU
MOST_REST_SECONDS = 2.0  # far below the 10 s after which Prometheus gives a scrape up


class Metrics:
    """The metrics of this process, for use in one event loop.

    Scrapes that arrive while a build has to wait share the next one, so that a flood of scrapes costs no more than a
    few of them. Each response contains everything that was counted before its request.
    """

    def __init__(self) -> None:
        self._due = 0.0
        self._next: dict[tuple[str, bool], asyncio.Task[bytes]] = {}

    async def answer(self, request: Request) -> Response:
        """Return all metrics in the format that the scraper accepts.

        The endpoint is async because sync endpoints wait for a thread: metrics would be missing during an overload.
        """
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        accepted = ",".join(request.headers.getlist("accept-encoding")).encode("latin-1")
        zipped = bool(codings.chosen(accepted, ("gzip",))[0])
        key = (content_type, zipped)
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._build(key, lambda: encode(REGISTRY)))
        content = await asyncio.shield(self._next[key])  # one of several scrapers may disconnect
        headers = {"Vary": "Accept, Accept-Encoding"} | ({"Content-Encoding": "gzip"} if zipped else {})
        return Response(content, headers=headers, media_type=content_type)

    async def _build(self, key: tuple[str, bool], encoded: Callable[[], bytes]) -> bytes:
        while (left := self._due - time.monotonic()) > 0:
            await asyncio.sleep(left)
        del self._next[key]  # a later request needs a later build
        begin = time.thread_time()  # not the time of day, which includes waits for a busy or limited CPU
        content = encoded()
        if key[1]:
            content = gzip.compress(content, compresslevel=1)
        self._due = time.monotonic() + min(REST * (time.thread_time() - begin), MOST_REST_SECONDS)
        return content
