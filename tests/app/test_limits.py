"""Concurrency and time limits, over real connections."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.loaded import INLINE_ROWS
from app.settings import Settings
from tests.app.harness import COLUMNS, Answer, Listening, eventually, listening, settings_for

NAME = "limited"
OTHER = "other"  # owner of the slots that tests hold
BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()


@pytest.fixture
def one_slot(saved: Path, tmp_path: Path) -> Settings:
    return limited(saved, tmp_path)


def limited(saved: Path, tmp_path: Path, **changes: Any) -> Settings:
    limits = {"max_concurrency": 1, "queue_size": 1, "model_name": NAME} | changes
    return settings_for(saved.as_uri(), tmp_path, **limits)


def waiting() -> float | None:
    return REGISTRY.get_sample_value("model_requests_waiting", {"model_name": NAME})


def errors(here: Listening, reason: str) -> float:
    assert here.service.loaded
    labels = {"model_name": NAME, "model_version": here.service.loaded.model.provenance.version, "reason": reason}
    return REGISTRY.get_sample_value("model_errors_total", labels) or 0


def test_queued_request_is_served_and_queue_overflow_returns_503(one_slot: Settings) -> None:
    async def scenario() -> tuple[Answer, Answer, float]:
        async with listening(one_slot) as here:
            before = errors(here, "overloaded")
            assert here.service.limits.enter(OTHER)
            first = asyncio.create_task(here.ask("POST", "/predict", BODY))
            await eventually(lambda: waiting() == 1)
            second = await here.ask("POST", "/predict", BODY)
            here.service.limits.leave(OTHER)
            return await first, second, errors(here, "overloaded") - before

    first, second, counted = asyncio.run(scenario())

    assert first.status == 200
    assert (second.status, second.headers["retry-after"]) == (503, "1")
    assert second.json()["type"] == "urn:model-service:overloaded"
    assert counted == 1


def test_concurrency_limit_is_a_metric(one_slot: Settings) -> None:
    async def scenario() -> None:
        async with listening(one_slot):
            assert REGISTRY.get_sample_value("model_concurrency_limit", {"model_name": NAME}) == 1
            assert waiting() == 0

    asyncio.run(scenario())


def test_queue_timeout_returns_503(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> Answer:
        async with listening(limited(saved, tmp_path, queue_timeout_seconds=0.05)) as here:
            here.service.limits.enter(OTHER)
            refused = await here.ask("POST", "/predict", BODY)
            assert waiting() == 0
            here.service.limits.leave(OTHER)
            assert (await here.ask("POST", "/predict", BODY)).status == 200
            return refused

    refused = asyncio.run(scenario())

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["detail"] == "No slot became free within 0.05 s; try again later."


def test_client_that_leaves_the_queue_takes_no_slot(one_slot: Settings) -> None:
    async def scenario() -> float:
        async with listening(one_slot) as here:
            before = errors(here, "cancelled")
            here.service.limits.enter(OTHER)
            caller = await here.send("POST", "/predict", BODY)
            await eventually(lambda: waiting() == 1)
            caller.close()
            await eventually(lambda: waiting() == 0)
            here.service.limits.leave(OTHER)
            assert (await here.ask("POST", "/predict", BODY)).status == 200
            return errors(here, "cancelled") - before

    assert asyncio.run(scenario()) == 1


def test_slow_body_holds_no_slot_and_returns_408(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> tuple[Answer, Answer, float]:
        async with listening(limited(saved, tmp_path, body_timeout_seconds=0.3)) as here:
            before = errors(here, "timeout")
            slow = asyncio.create_task(here.ask("POST", "/predict", BODY[:9], announced=len(BODY)))
            await asyncio.sleep(0)
            other = await here.ask("POST", "/predict", BODY)
            return await slow, other, errors(here, "timeout") - before

    slow, other, counted = asyncio.run(scenario())

    assert other.status == 200
    assert (slow.status, slow.headers["connection"]) == (408, "close")
    assert slow.json()["detail"] == "The body did not arrive within 0.3 s."
    assert counted == 1


def test_client_that_leaves_holds_no_slot(one_slot: Settings) -> None:
    async def scenario() -> float:
        async with listening(one_slot) as here:
            before = errors(here, "cancelled")
            caller = await here.send("POST", "/predict", BODY[:9], announced=len(BODY))
            await eventually(lambda: in_progress() == 1)
            caller.close()
            await eventually(lambda: in_progress() == 0)
            assert (await here.ask("POST", "/predict", BODY)).status == 200
            return errors(here, "cancelled") - before

    assert asyncio.run(scenario()) == 1


def in_progress() -> float | None:
    labels = {"method": "POST", "app_name": "model-service"}
    return REGISTRY.get_sample_value("http_server_requests_in_progress", labels)


def test_long_prediction_returns_504_and_keeps_its_slot_until_it_ends(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]] * (INLINE_ROWS + 1)}).encode()
    end = threading.Event()

    async def scenario() -> Answer:
        # A whole second, so that the prediction has started: one that still waits for a thread is cancelled.
        async with listening(limited(saved, tmp_path, queue_timeout_seconds=1, request_timeout_seconds=1)) as here:
            assert here.service.loaded
            booster = here.service.loaded.model.booster  # type: ignore[attr-defined]
            predict = booster.predict
            monkeypatch.setattr(booster, "predict", lambda rows: end.wait() and predict(rows))
            try:
                late = await here.ask("POST", "/predict", body)
                assert not here.service.limits.enter(OTHER)
            finally:
                end.set()
            await eventually(lambda: here.service.limits.enter(OTHER))
            here.service.limits.leave(OTHER)
            return late

    late = asyncio.run(scenario())

    assert (late.status, late.headers["retry-after"]) == (504, "1")
    assert late.json()["detail"] == "The request took longer than 1 s; send fewer rows."


def test_overload_does_not_fail_readiness_by_default(saved: Path, tmp_path: Path) -> None:
    """If all pods are overloaded, all would leave their Service, and clients would get no answer at all."""

    async def scenario() -> None:
        async with listening(limited(saved, tmp_path, queue_size=0)) as here:
            here.service.limits.enter(OTHER)
            assert (await here.ask("POST", "/predict", BODY)).status == 503
            here.service.limits._refusing_since = 0.0  # long ago
            assert (await here.ask("GET", "/health/ready")).status == 200

    asyncio.run(scenario())


def test_saturation_fails_readiness_until_a_slot_is_free(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with listening(limited(saved, tmp_path, queue_size=0, saturation_seconds=0.5)) as here:
            here.service.limits.enter(OTHER)
            begin = time.monotonic()
            assert (await here.ask("POST", "/predict", BODY)).status == 503
            assert (await here.ask("GET", "/health/ready")).status == 200
            await eventually(lambda: here.service.limits.saturated)
            assert time.monotonic() - begin > 0.5

            saturated = await here.ask("GET", "/health/ready")
            assert saturated.status == 503
            assert saturated.json()["reasons"] == ["saturated: all slots are in use and requests are rejected"]

            here.service.limits.leave(OTHER)
            assert (await here.ask("GET", "/health/ready")).status == 200

    asyncio.run(scenario())
