"""Ten minutes of all kinds of requests, with stable memory, stable latency and no failures.

The test must run alone, because it keeps two cores busy. SOAK_SECONDS shortens it.
"""

import asyncio
import json
import os
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.app.harness import COLUMNS, Running, running_service

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
PARTS = 10  # the first part of the run is the warm-up
CLIENTS = 8
GROWTH_MIB = 8.0  # from the first part after the warm-up to the last, which detects a leak of 10 bytes per request
LEAST_REQUESTS = 100_000 * min(1, SECONDS / 600)
ROW = [0.5, 0.25, 3]


def body(rows: int, **changes: object) -> bytes:
    return json.dumps({"columns": COLUMNS, "data": [ROW] * rows} | changes).encode()


# Requests and their expected status; None: the client disconnects without waiting.
ASKED: list[tuple[bytes, int | None]] = [
    *[(body(1), 200)] * 12,  # identical requests, whose latency is measured
    *[(body(50), 200)] * 4,
    (body(1000), 200),
    (body(1, data=[["x", 1, 1]]), 422),
    (body(1001), 413),
    (b'{"columns": [', 400),
    (body(1000), None),
]


@dataclass
class Figures:
    """Measurements of one part of the run."""

    one_row_ms: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def line(self) -> str:
        cuts = quantiles(self.one_row_ms, n=1000)
        latency = f"one row p50 {cuts[499]:.2f} p99 {cuts[989]:.2f} p99.9 {cuts[998]:.2f} ms"
        return f"{self.statuses.total():7d} requests, {latency}, RSS {median(self.rss_mib):.1f} MiB"


@pytest.mark.long
def test_memory_and_latency_are_stable_for_ten_minutes(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_service(saved.as_uri(), tmp_path) as here:
        parts = asyncio.run(soak(here))
        log = here.log.read_text()
    with capsys.disabled():
        print(f"\nsoak of {SECONDS:.0f} s, {CLIENTS} clients:", *(part.line() for part in parts), sep="\n  ")

    met = sum((part.statuses for part in parts), Counter[int]())
    assert met.keys() == {200, 422, 413, 400}
    assert met.total() >= LEAST_REQUESTS
    assert '"level": "error"' not in log
    growth = median(parts[-1].rss_mib) - median(parts[1].rss_mib)
    assert growth < GROWTH_MIB, f"RSS grew by {growth:.1f} MiB"


async def soak(here: Running) -> list[Figures]:
    parts = [Figures() for _ in range(PARTS)]
    begin = time.monotonic()

    def part() -> Figures | None:
        at = int((time.monotonic() - begin) / SECONDS * PARTS)
        return parts[at] if at < PARTS else None

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        turn = number * 3
        while (now := part()) is not None:
            content, wanted = ASKED[turn % len(ASKED)]
            turn += 1
            is_one_row = content is ASKED[0][0]
            sent = time.perf_counter()
            writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
            if wanted is None:
                await writer.drain()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
                reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
                continue
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            status = int(head.split()[1])
            assert status == wanted
            now.statuses[status] += 1
            if is_one_row:
                now.one_row_ms.append((time.perf_counter() - sent) * 1000)
        writer.close()

    async def watch() -> None:
        while (now := part()) is not None:
            status = Path(f"/proc/{here.process.pid}/status").read_text()
            now.rss_mib.append(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024)
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(client(number) for number in range(CLIENTS)))
    return parts
