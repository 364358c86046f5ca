"""Overload by many more clients than slots, none of which respects Retry-After, over real connections."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from app.limits import REFUSALS_AT_ONCE
from app.model.booster import Matrix
from app.model.output import Predictions
from tests.app.harness import COLUMNS, Answer, Listening, eventually, listening, settings_for

BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()
SLOTS, PLACES, CALLERS = 4, 8, 100
OTHER = "other"  # owner of the slots that tests hold


async def insist(here: Listening, wanted: int) -> list[Answer]:
    """Send requests until `wanted` predictions have arrived, with an immediate retry after each rejection."""
    answers: list[Answer] = []
    while wanted:
        answers.append(await here.ask("POST", "/predict", BODY))
        wanted -= answers[-1].status == 200
    return answers


def test_overload_serves_all_clients_and_rejects_with_retry_after(saved: Path, tmp_path: Path) -> None:
    most_at_once = 0

    async def scenario() -> list[Answer]:
        nonlocal most_at_once
        limits = {"max_concurrency": SLOTS, "queue_size": PLACES}
        async with listening(settings_for(saved.as_uri(), tmp_path, **limits)) as here:
            assert here.service.loaded
            predict = here.service.loaded.coalescer._predict

            def watched(rows: Matrix) -> Predictions:
                nonlocal most_at_once
                most_at_once = max(most_at_once, len(rows))
                return predict(rows)

            here.service.loaded.coalescer._predict = watched
            answers = await asyncio.gather(*(insist(here, 5) for _ in range(CALLERS)))
            assert not here.service.limits.full(OTHER)
            return [answer for each in answers for answer in each]

    answers = asyncio.run(scenario())

    assert Counter(answer.status for answer in answers)[200] == 5 * CALLERS
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    assert {(a.status, a.headers["retry-after"], a.json()["type"]) for a in refused} == {
        (503, "1", "urn:model-service:overloaded")
    }
    assert 0 < most_at_once <= SLOTS


def test_rejection_does_not_wait_for_the_body(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> Answer:
        async with listening(settings_for(saved.as_uri(), tmp_path, max_concurrency=1, queue_size=0)) as here:
            here.service.limits.enter(OTHER)
            return await here.ask("POST", "/predict", b"", announced=1000)

    assert asyncio.run(scenario()).status == 503


def test_later_rejections_are_delayed_and_hold_no_slot(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> list[Answer]:
        async with listening(settings_for(saved.as_uri(), tmp_path, max_concurrency=1, queue_size=0)) as here:
            here.service.limits.enter(OTHER)
            asked = [asyncio.create_task(here.ask("POST", "/predict", BODY)) for _ in range(REFUSALS_AT_ONCE + 20)]
            await eventually(lambda: sum(task.done() for task in asked) >= REFUSALS_AT_ONCE)
            assert not all(task.done() for task in asked)
            here.service.limits.leave(OTHER)
            assert (await here.ask("POST", "/predict", BODY)).status == 200
            return await asyncio.gather(*asked)

    assert {answer.status for answer in asyncio.run(scenario())} == {503}
