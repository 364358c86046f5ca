"""Concurrent requests get the same predictions as serial ones, bit for bit, next to bad requests and disconnects."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.app.harness import Answer, Listening, eventually, listening, settings_for
from tests.app.kinds import KINDS, ROWS

SIZES = [1, 1, 1, 2, 7, 40, 101, 150]  # the last two run in a thread


def requests(kind: str) -> list[bytes]:
    """Return bodies of all sizes over all rows, of which every ninth has a bad row."""
    whole = KINDS[kind].body()
    found = []
    for number in range(90):
        rows = [whole["data"][(number + i) % ROWS] for i in range(SIZES[number % len(SIZES)])]
        if number % 9 == 0:
            rows[-1] = [{}] * len(whole["columns"])
        found.append(json.dumps({"columns": whole["columns"], "data": rows}).encode())
    return found


async def leave(here: Listening, body: bytes) -> None:
    """Send a request and disconnect before the response."""
    writer = await here.send("POST", "/predict", body)
    writer.close()


@pytest.mark.parametrize("kind", ["multiclass", "categorical", "ranking", "missing", "targets"])
def test_concurrent_predictions_equal_serial_ones(kind: str, tmp_path: Path) -> None:
    KINDS[kind].save(tmp_path / "model")
    sent = requests(kind)
    order = random.Random(0).sample(range(len(sent)), len(sent))  # noqa: S311 - any order will do

    async def scenario() -> tuple[list[Answer], list[Answer]]:
        limits: dict[str, Any] = {"max_concurrency": 16, "queue_size": 2 * len(sent)}
        async with listening(settings_for((tmp_path / "model").as_uri(), tmp_path, **limits)) as here:
            serial = [await here.ask("POST", "/predict", body) for body in sent]
            leaving = [leave(here, sent[i]) for i in order[:30]]
            asked = [asyncio.create_task(here.ask("POST", "/predict", sent[i])) for i in order]
            await asyncio.gather(*leaving)
            answers = dict(zip(order, await asyncio.gather(*asked), strict=True))
            await eventually(lambda: here.service.limits._free == 16)
            return serial, [answers[i] for i in range(len(sent))]

    serial, concurrent = asyncio.run(scenario())

    assert [answer.status for answer in serial] == [422 if number % 9 == 0 else 200 for number in range(len(sent))]
    for one, other in zip(serial, concurrent, strict=True):
        assert one.status == other.status
        if one.status == 200:
            assert one.content == other.content
        else:
            assert one.json()["errors"] == other.json()["errors"]
