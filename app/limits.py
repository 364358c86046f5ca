"""Concurrency limits: a bounded number of requests run, a bounded number wait, and the rest are rejected.

A request takes a slot after its body has arrived, so slow clients hold none. Rejections are paced. Otherwise, clients
that retry immediately would keep the process too busy with rejections to serve the requests that have a slot.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import NoReturn

from starlette.types import Receive

from app.errors import ClientGoneError, OverloadedError
from app.monitoring.model_metrics import LIMIT, WAITING
from app.settings import Settings

REFUSALS_PER_SECOND = 250  # beyond this rate, rejections are delayed; each costs about as much as a prediction
REFUSALS_AT_ONCE = 50
LONGEST_PAUSE_SECONDS = 1.0

_FULL = "All slots are in use and the queue is full; try again later."


class Pace:
    """A bounded rate of rejections: beyond it, each one waits for its turn."""

    def __init__(self) -> None:
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next rejection is due, at most `LONGEST_PAUSE_SECONDS`."""
        now = time.monotonic()
        earliest = now - REFUSALS_AT_ONCE / REFUSALS_PER_SECOND
        self._next = max(self._next, earliest) + 1 / REFUSALS_PER_SECOND
        if self._next > now:
            self._next = min(self._next, now + LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(self._next - now)


class Limits:
    """Slots and their queue, for use in one event loop.

    Args:
        settings: Settings of the queue.
        slots: Maximum number of concurrent requests.
    """

    def __init__(self, settings: Settings, slots: int) -> None:
        self._settings = settings
        self._slots = self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refusing_since: float | None = None
        self._pace = Pace()

    def publish(self) -> None:
        """Export these limits as metrics."""
        name = self._settings.served_name
        LIMIT.labels(name).set(self._slots)
        WAITING.labels(name).set_function(lambda: len(self._waiting))

    @property
    def saturated(self) -> bool:
        """Whether requests have been rejected for longer than `saturation_seconds` without a free slot in between."""
        since = self._refusing_since
        return since is not None and time.monotonic() - since > self._settings.saturation_seconds

    @property
    def full(self) -> bool:
        """Whether all slots are in use and the queue is full."""
        return not self._free and len(self._waiting) >= self._settings.queue_size

    def enter(self) -> bool:
        """Take a slot and return True if one is free; otherwise return False, and the request may `wait`."""
        if self._free:  # then the queue is empty: a released slot goes to the first waiting request
            self._free -= 1
            return True
        return False

    async def wait(self, receive: Receive) -> None:
        """Wait in the queue and take a slot.

        Args:
            receive: ASGI receive channel of a request whose body was read; it reports a disconnect.

        Raises:
            OverloadedError: The queue is full, or the wait exceeded `queue_timeout_seconds`.
            ClientGoneError: The client closed the connection.
        """
        if self.full:
            await self.refuse()
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        gone = asyncio.ensure_future(_departure(receive))
        granted = False
        try:
            seconds = self._settings.queue_timeout_seconds
            await asyncio.wait({slot, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientGoneError
            granted = slot.done()
        finally:
            gone.cancel()
            if slot.done() and not granted:
                self.leave()
            elif not granted:
                self._waiting.remove(slot)
        if not granted:
            await self.refuse(f"No slot became free within {seconds:g} s; try again later.")

    def leave(self) -> None:
        """Release a slot, to the first waiting request if there is one."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
            self._refusing_since = None

    async def refuse(self, detail: str = _FULL) -> NoReturn:
        """Raise OverloadedError, after a delay if requests are rejected at a high rate."""
        if self._refusing_since is None:
            self._refusing_since = time.monotonic()
        await self._pace.wait()
        raise OverloadedError(detail)


async def _departure(receive: Receive) -> None:
    """Return once the client has closed the connection."""
    with suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
