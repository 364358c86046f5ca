"""Let a bounded number of requests work at once, a bounded number wait, and refuse the rest.

A request takes a slot when its body is there, so a slow sender holds none. Refusals are paced: callers that come back
at once would otherwise keep the process so busy with refusing that it hardly answers those who have a slot.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import NoReturn

from starlette.types import Receive

from app.errors import ClientGoneError, OverloadedError
from app.metrics import LIMIT, WAITING
from app.settings import Settings

REFUSALS_PER_SECOND = 250  # without a pause; each costs about as much as a prediction
REFUSALS_AT_ONCE = 50
LONGEST_PAUSE_SECONDS = 1.0

_FULL = "All slots are taken and the queue is full; try again later."


class Limits:
    """Slots, and the queue for them. For one event loop.

    Args:
        settings: the queue's.
        slots: requests that work at once.
    """

    def __init__(self, settings: Settings, slots: int) -> None:
        self._settings = settings
        self._slots = self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refusing_since: float | None = None
        self._next_refusal = 0.0

    def publish(self) -> None:
        """Let the metrics show these limits."""
        name = self._settings.served_name
        LIMIT.labels(name).set(self._slots)
        WAITING.labels(name).set_function(lambda: len(self._waiting))

    @property
    def saturated(self) -> bool:
        """Whether requests are refused for longer than the set time, without a free slot in between."""
        since = self._refusing_since
        return since is not None and time.monotonic() - since > self._settings.saturation_seconds

    @property
    def full(self) -> bool:
        """Whether there is neither a slot nor a place in the queue."""
        return not self._free and len(self._waiting) >= self._settings.queue_size

    def enter(self) -> bool:
        """Take a slot if one is free; who gets False may `wait` for one."""
        if self._free:  # then nobody waits: a slot that becomes free goes to the first who does
            self._free -= 1
            return True
        return False

    async def wait(self, receive: Receive) -> None:
        """Take a slot when it is this request's turn.

        Args:
            receive: of a request whose body was read; tells when the caller leaves.

        Raises:
            OverloadedError: the queue is full, or the wait was too long.
            ClientGoneError: the caller left.
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
        """Give the slot to the first who waits."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
            self._refusing_since = None

    async def refuse(self, detail: str = _FULL) -> NoReturn:
        """Raise OverloadedError: at once, or when it is its turn among many."""
        now = time.monotonic()
        if self._refusing_since is None:
            self._refusing_since = now
        earliest = now - REFUSALS_AT_ONCE / REFUSALS_PER_SECOND
        self._next_refusal = max(self._next_refusal, earliest) + 1 / REFUSALS_PER_SECOND
        if self._next_refusal > now:
            self._next_refusal = min(self._next_refusal, now + LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(self._next_refusal - now)
        raise OverloadedError(detail)


async def _departure(receive: Receive) -> None:
    """Return when the caller has closed the connection."""
    with suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
