"""Concurrency limits: a bounded number of requests run, a bounded number wait, and the rest are rejected.

A request takes a slot after its body has arrived, so slow clients hold none. Rejections are paced. Otherwise, clients
that retry immediately would keep the process too busy with rejections to serve the requests that have a slot.

Slots and places in the queue are shared between owners, the callers that were active in the last second. While the pod
is busy, each owner holds at most its share of the slots, and a free slot goes to the waiting owner that holds the
fewest. If the queue is full, the owner with the most waiting requests loses its newest one to another owner. A single
owner may use everything.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, NoReturn

from starlette.types import Receive

from app.errors import ClientGoneError, OverloadedError
from app.monitoring.model_metrics import LIMIT, WAITING
from app.settings import Settings

REFUSALS_PER_SECOND = 250  # beyond this rate, rejections are delayed; each costs about as much as a prediction
REFUSALS_AT_ONCE = 50
LONGEST_PAUSE_SECONDS = 1.0
ACTIVE_SECONDS = 1.0  # for which an owner counts after its last request, at least
BUSY = 4  # shares apply while more than one in this many slots are in use

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


class Active:
    """The owners that sent a request within the last one to two seconds."""

    def __init__(self) -> None:
        self._now: set[Hashable] = set()
        self._before: set[Hashable] = set()
        self._until = 0.0
        self.count = 0

    def note(self, owner: Hashable) -> None:
        """Note a request."""
        now = time.monotonic()
        if now >= self._until:
            self._before = self._now if now < self._until + ACTIVE_SECONDS else set()
            self._now = set()
            self._until = now + ACTIVE_SECONDS
        elif owner in self._now:
            return
        self._now.add(owner)
        self.count = len(self._now | self._before)


class Limits:
    """Slots and their queue, for use in one event loop.

    Args:
        settings: Settings of the queue.
        slots: Maximum number of concurrent requests.
    """

    def __init__(self, settings: Settings, slots: int) -> None:
        self._settings = settings
        self._slots = self._free = slots
        self._active = Active()
        self._held: dict[Hashable, int] = {}
        self._queues: dict[Hashable, deque[asyncio.Future[bool]]] = {}  # the owner whose turn is next comes first
        self._waiting = 0
        self._refusing_since: float | None = None
        self._pace = Pace()

    def publish(self) -> None:
        """Export these limits as metrics."""
        name = self._settings.served_name
        LIMIT.labels(name).set(self._slots)
        WAITING.labels(name).set_function(lambda: self._waiting)

    @property
    def saturated(self) -> bool:
        """Whether requests have been rejected for longer than `saturation_seconds` without a free slot in between.

        Rejections of an owner beyond its share do not count, because others are still served.
        """
        since, limit = self._refusing_since, self._settings.saturation_seconds
        return bool(limit) and since is not None and time.monotonic() - since > limit

    def full(self, owner: Hashable) -> bool:
        """Whether a request of this owner would be rejected."""
        if self._waiting < self._settings.queue_size or self._may_take(owner):
            return False
        return self._longest(owner) is None

    def enter(self, owner: Hashable) -> bool:
        """Take a slot and return True if one is free for this owner; otherwise return False: the request may `wait`."""
        self._active.note(owner)
        if owner in self._queues or not self._may_take(owner):
            return False
        self._take(owner)
        return True

    async def wait(self, owner: Hashable, receive: Receive) -> None:
        """Wait in the queue and take a slot.

        Args:
            owner: Caller of the request.
            receive: ASGI receive channel of a request whose body was read; it reports a disconnect.

        Raises:
            OverloadedError: The queue is full, or the wait exceeded `queue_timeout_seconds`.
            ClientGoneError: The client closed the connection.
        """
        if self._waiting >= self._settings.queue_size:
            if (longest := self._longest(owner)) is None:
                await self.refuse(owner)
            newest = self._queues[longest][-1]
            self._remove(longest, newest)
            newest.set_result(False)
        slot: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(slot)
        self._waiting += 1
        gone = asyncio.ensure_future(_departure(receive))
        either: set[asyncio.Future[Any]] = {slot, gone}
        kept = False
        try:
            seconds = self._settings.queue_timeout_seconds
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientGoneError
            kept = slot.done() and slot.result()
        finally:
            gone.cancel()
            if not slot.done():
                self._remove(owner, slot)
            elif slot.result() and not kept:
                self.leave(owner)
        if not kept:
            late = f"No slot became free within {seconds:g} s; try again later."
            await self.refuse(owner, _FULL if slot.done() else late)

    def leave(self, owner: Hashable) -> None:
        """Release a slot of this owner, to the waiting owner that holds the fewest."""
        self._free += 1
        if self._held[owner] == 1:
            del self._held[owner]
        else:
            self._held[owner] -= 1
        while self._queues:
            following = min(self._queues, key=lambda each: self._held.get(each, 0))  # of equals the first
            if not self._may_take(following):
                break
            slot = self._queues[following][0]
            self._remove(following, slot)
            if following in self._queues:  # to the end: the others have their turn first
                self._queues[following] = self._queues.pop(following)
            self._take(following)
            slot.set_result(True)
        if self._free:
            self._refusing_since = None

    async def refuse(self, owner: Hashable, detail: str = _FULL) -> NoReturn:
        """Raise OverloadedError, after a delay if requests are rejected at a high rate."""
        share = self._settings.queue_size // max(self._active.count, 1)
        if self._refusing_since is None and len(self._queues.get(owner, ())) <= share:
            self._refusing_since = time.monotonic()
        await self._pace.wait()
        raise OverloadedError(detail)

    def _may_take(self, owner: Hashable) -> bool:
        if not self._free:
            return False
        if (self._slots - self._free) * BUSY < self._slots:
            return True
        return self._held.get(owner, 0) < math.ceil(self._slots / self._active.count)

    def _take(self, owner: Hashable) -> None:
        self._free -= 1
        self._held[owner] = self._held.get(owner, 0) + 1

    def _longest(self, owner: Hashable) -> Hashable | None:
        """Return the owner with the most waiting requests, if this owner would have fewer with one more."""
        longest = max(self._queues, key=lambda each: len(self._queues[each]), default=None)
        if longest is None or len(self._queues[longest]) <= len(self._queues.get(owner, ())) + 1:
            return None
        return longest

    def _remove(self, owner: Hashable, slot: asyncio.Future[bool]) -> None:
        queue = self._queues[owner]
        queue.remove(slot)
        self._waiting -= 1
        if not queue:
            del self._queues[owner]


async def _departure(receive: Receive) -> None:
    """Return once the client has closed the connection."""
    with suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
