"""Slots and places of the queue among several callers, by the order of admission."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import limits
from app.context import CALLER
from app.errors import OverloadedError
from app.limits import Limits
from app.settings import Settings
from tests.app.harness import COLUMNS, eventually, listening, settings_for

SLOTS, PLACES = 32, 12
POLITE = [f"polite-{number}" for number in range(9)]
BODY = {"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}


def limited(slots: int = SLOTS, places: int = PLACES) -> Limits:
    return Limits(Settings(model_uri="file:///model", queue_size=places, queue_timeout_seconds=30), slots)


async def connected() -> dict[str, Any]:
    """Receive nothing, like from a client that waits for its response."""
    await asyncio.Event().wait()
    return {}


class Queue:
    """Requests that wait for a slot, and the order in which they get one."""

    def __init__(self, within: Limits) -> None:
        self._limits = within
        self._tasks: list[asyncio.Task[None]] = []
        self.order: list[str] = []
        self.refused: list[str] = []

    async def join(self, *owners: str) -> None:
        """Let one request of each owner wait, in this order."""
        for owner in owners:
            assert not self._limits.enter(owner)
            self._tasks.append(asyncio.create_task(self._wait(owner)))
            await settled()

    async def _wait(self, owner: str) -> None:
        try:
            await self._limits.wait(owner, connected)
        except OverloadedError:
            self.refused.append(owner)
        else:
            self.order.append(owner)

    async def served(self, *owners: str) -> list[str]:
        """Release one slot of each owner in turn, and return their next owners."""
        before = len(self.order)
        for owner in owners:
            self._limits.leave(owner)
            await settled()
        return self.order[before:]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def with_queue(within: Limits, scenario: Callable[[Queue], Awaitable[None]]) -> None:
    async def run() -> None:
        queue = Queue(within)
        try:
            await scenario(queue)
        finally:
            queue.close()

    asyncio.run(run())


def test_single_owner_may_use_all_slots() -> None:
    within = limited()

    assert [within.enter("greedy") for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]


def test_owner_holds_its_share_while_others_are_active() -> None:
    within = limited()
    assert all(within.enter(owner) for owner in POLITE)

    assert [within.enter("greedy") for _ in range(5)] == [True] * 4 + [False]  # a tenth of 32

    within.leave(POLITE[0])
    assert within.enter(POLITE[0])
    assert within.enter(POLITE[0])


def test_shares_do_not_apply_on_an_idle_pod() -> None:
    within = limited()
    for number in range(40):
        assert within.enter(f"polite-{number}")
        within.leave(f"polite-{number}")

    assert [within.enter("one") for _ in range(SLOTS // limits.BUSY + 1)] == [True] * (SLOTS // limits.BUSY) + [False]


def test_share_grows_when_others_have_been_inactive(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    within = limited(slots=4)
    assert [within.enter(owner) for owner in ("polite", "greedy", "greedy", "greedy")] == [True, True, True, False]
    within.leave("polite")

    clock[0] += limits.ACTIVE_SECONDS
    assert not within.enter("greedy")
    clock[0] += limits.ACTIVE_SECONDS
    assert within.enter("greedy")


def test_free_slot_goes_to_the_owner_that_holds_the_fewest() -> None:
    within = limited(slots=4)
    assert all(within.enter("greedy") for _ in range(4))

    async def scenario(queue: Queue) -> None:
        await queue.join(*["greedy"] * 5, "polite-1", "polite-2", "polite-2")

        assert await queue.served(*["greedy"] * 3) == ["polite-1", "polite-2", "greedy"]  # the first of equals
        assert await queue.served("polite-1") == ["polite-2"]

    with_queue(within, scenario)


def test_owners_that_hold_as_many_take_turns() -> None:
    within = limited(slots=1)
    assert within.enter("first")

    async def scenario(queue: Queue) -> None:
        await queue.join(*["greedy"] * 4, *["polite-1"] * 2, *["polite-2"] * 2)

        order = await queue.served(
            "first", "greedy", "polite-1", "polite-2", "greedy", "polite-1", "polite-2", "greedy"
        )
        assert order == ["greedy", "polite-1", "polite-2"] * 2 + ["greedy"] * 2

    with_queue(within, scenario)


def test_waiting_owner_takes_all_slots_when_its_share_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACTIVE_SECONDS", 0.0)  # each request ends the activity of the others
    within = limited(slots=8)
    assert all(within.enter(owner) for owner in ("polite-1", "polite-2"))

    async def scenario(queue: Queue) -> None:
        within._active.count = 4  # as if four were active
        within._held |= {"greedy": 2}
        within._free -= 2
        monkeypatch.setattr(within._active, "note", lambda _: None)
        await queue.join(*["greedy"] * 5)
        assert await queue.served("polite-1", "polite-2") == []
        within._active.count = 1

        assert await queue.served("greedy") == ["greedy"] * 5

    with_queue(within, scenario)


def test_full_queue_takes_a_place_from_the_owner_with_the_most() -> None:
    within = limited(slots=1)
    assert within.enter("greedy")

    async def scenario(queue: Queue) -> None:
        await queue.join(*["greedy"] * PLACES)
        assert within.full("greedy")
        assert not within.full("polite-1")

        await queue.join("polite-1", "polite-2", "polite-1")
        assert queue.refused == ["greedy"] * 3
        assert within._waiting == PLACES
        await queue.join(*["polite-1"] * 5)
        assert queue.refused == ["greedy"] * 6 + ["polite-1"] * 2  # once it has almost as many
        assert not within.full("polite-2")

    with_queue(within, scenario)


def test_refusals_of_one_owner_do_not_make_the_pod_saturated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Pace, "wait", lambda _: asyncio.sleep(0))
    within = limited(slots=1)
    assert within.enter("polite-1")

    async def scenario(queue: Queue) -> None:
        await queue.join(*["greedy"] * (PLACES + 3))
        assert queue.refused == ["greedy"] * 3
        assert within._refusing_since is None

    with_queue(within, scenario)
    alone = limited(slots=1)
    assert alone.enter("greedy")

    async def saturating(queue: Queue) -> None:
        await queue.join(*["greedy"] * (PLACES + 1))
        assert alone._refusing_since is not None

    with_queue(alone, saturating)


def test_one_greedy_and_nine_polite_callers_on_one_service(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    for name in ("greedy", *POLITE):
        (tmp_path / "keys" / name).write_text(f"{name}-key-0123456789")
    settings = settings_for(saved.as_uri(), tmp_path, api_keys_dir=tmp_path / "keys", max_concurrency=1)
    admitted: list[str] = []

    async def scenario() -> list[int]:
        async with (
            listening(settings) as here,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{here.port}", timeout=300) as client,
        ):
            within, reader = here.service.limits, here.service.loaded.reader  # type: ignore[union-attr]
            read = reader.read

            def watched(body: bytes) -> Any:
                admitted.append(CALLER.get())
                return read(body)

            reader.read = watched  # type: ignore[method-assign]

            def ask(caller: str) -> asyncio.Task[httpx.Response]:
                headers = {"Authorization": f"Bearer {caller}-key-0123456789"}
                return asyncio.create_task(client.post("/predict", json=BODY, headers=headers))

            assert within.enter("holder")
            asked = [ask("greedy") for _ in range(40)]
            await eventually(lambda: within._waiting == 40)
            asked += [ask(caller) for caller in POLITE]
            await eventually(lambda: within._waiting == 49)
            within.leave("holder")
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(scenario()) == [200] * 49
    assert admitted[0] == "greedy"  # it came first
    assert set(admitted[1:10]) == set(POLITE)
    assert admitted[10:] == ["greedy"] * 39
