"""Metrics and health respond while all threads of the process are busy, as in an overload."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest
from starlette.testclient import TestClient

from app.endpoints import predict
from tools.loopback import until

SECONDS = 10


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready", "/health"])
def test_metrics_and_health_need_no_thread(client: TestClient, path: str) -> None:
    release, portal = threading.Event(), client.portal
    assert portal

    async def limiter() -> anyio.CapacityLimiter:
        return anyio.to_thread.current_default_thread_limiter()

    async def in_a_thread(work: Callable[[], object]) -> object:
        return await anyio.to_thread.run_sync(work)

    workers = portal.call(limiter)
    try:
        for _ in range(int(workers.total_tokens)):
            portal.start_task_soon(in_a_thread, release.wait)
        for _ in range(os.process_cpu_count() or 1):
            predict._THREADS.submit(release.wait)
        until(lambda: workers.available_tokens == 0)
        waiting = portal.start_task_soon(in_a_thread, int)  # like a plain `def` endpoint

        with ThreadPoolExecutor(1) as caller:
            answer = caller.submit(client.get, path)
            try:
                assert answer.result(SECONDS).status_code == 200
            finally:
                still_busy = not waiting.done()
                release.set()
        assert still_busy
    finally:
        release.set()
