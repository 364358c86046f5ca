"""One greedy and nine polite callers on one service: `python -m tools.bench.callers`.

The polite callers send one row at a time. The greedy one keeps 64 requests in progress. Callers are told apart by their
loopback address. The latency of the polite ones is measured alone and with the greedy one in turn: with fair shares,
with a quota for each caller, and with all callers at one address, as which they would wait in one queue.

It also measures the CPU time that identification and quotas add to a request, without a network.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.auth import Guard
from app.http.callers import Callers
from app.limits import Limits
from app.settings import Settings
from tools.bench.entries import ENTRIES, OURS
from tools.bench.models import SIZES, Model, encode, train
from tools.bench.servers import CLIENT_CORE, running
from tools.cluster.console import Failure, step

POLITE, CONNECTIONS = 9, 64  # polite callers with one connection each; connections of the greedy one
RESTS = (0.0, 0.01)  # seconds between two requests of a polite caller: none, and as people cause them
QUOTA = {"default": {"requestsPerSecond": 150, "burstSeconds": 1}}
CALLS = 20_000
MOST_US = 2.0  # CPU time that quotas may add to a request
ENTRY = next(each for each in ENTRIES if each.name == OURS)
SERVICE = replace(ENTRY, others={})
LIMITED = replace(SERVICE, environment=ENTRY.environment | {"MODEL_SERVICE_QUOTAS_FILE": "{place}/quotas.json"})


@dataclass
class Client:
    """One connection that sends the same request again after each response, and a pause if it was refused.

    Args:
        request: Bytes to send.
        rest: Seconds to wait after a response.
        seconds: Latency of each served request.
    """

    request: bytes
    rest: float
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[bytes] = field(default_factory=Counter)

    async def run(self, port: int, address: str, until: float) -> None:
        """Send requests from an address of the loopback network until a time of the clock."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        while (begin := time.perf_counter()) < until:
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            status = head[9:12]
            self.statuses[status] += 1
            if status == b"200":
                self.seconds.append(time.perf_counter() - begin)
            if self.rest:
                await asyncio.sleep(self.rest)
        writer.close()


def visit(port: int, body: bytes, greedy_body: bytes, seconds: float, rest: float, greedy: str) -> dict[str, float]:
    """Return the p50 and p99 of the polite callers in milliseconds, and what each side was served per second.

    Args:
        port: Port of the service.
        body: Request of a polite caller.
        greedy_body: Request of the greedy caller.
        seconds: Duration.
        rest: Seconds between two requests of a polite caller.
        greedy: Address of the greedy caller; "": there is none. That of the first polite caller: all have this one.
    """
    first = "127.0.1.1"
    polite = [Client(_request(body), rest) for _ in range(POLITE)]
    others = [Client(_request(greedy_body), 0) for _ in range(CONNECTIONS if greedy else 0)]

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        same = greedy == first
        await asyncio.gather(
            *(each.run(port, first if same else f"127.0.1.{n}", until) for n, each in enumerate(polite, 1)),
            *(each.run(port, greedy, until) for each in others),
        )

    uvloop.run(all_of_them())
    found = sorted(latency for each in polite for latency in each.seconds)
    if len(found) < 100:
        raise Failure(
            f"The polite callers were served {len(found)} times: {sum((c.statuses for c in polite), Counter())}"
        )
    return {
        "p50_ms": round(statistics.median(found) * 1000, 2),
        "p99_ms": round(found[int(0.99 * len(found))] * 1000, 2),
        "polite_per_second": round(len(found) / seconds),
        "greedy_per_second": round(sum(len(each.seconds) for each in others) / seconds),
    }


def shares(rounds: int, seconds: float, rows: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of the figures, by the pause of the polite callers and the kind of sharing."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        model = train(Path(folder) / "model", *SIZES[0])
        for number in range(rounds):
            for entry, kinds in (
                (SERVICE, {"alone": "", "fair": "127.0.2.1", "one queue": "127.0.1.1"}),
                (LIMITED, {"quota": "127.0.2.1"}),
            ):
                with step(f"round {number + 1}, {', '.join(kinds)}"), tempfile.TemporaryDirectory() as place:
                    (Path(place) / "quotas.json").write_text(json.dumps(QUOTA))
                    for name, rest, figures in _measured(entry, model, Path(place), kinds, seconds, rows):
                        found.setdefault(f"{rest * 1000:g} ms", {}).setdefault(name, []).append(figures)
    return {
        rest: {
            name: {key: statistics.median(each[key] for each in all_) for key in all_[0]} for name, all_ in by.items()
        }
        for rest, by in found.items()
    }


def _measured(entry: Any, model: Model, place: Path, kinds: dict[str, str], seconds: float, rows: int) -> Any:
    body, greedy_body = encode(entry.body(model, 1)), encode(entry.body(model, rows))
    with running(entry, Path(sys.prefix), model, place) as server:
        port = int(server.address.rpartition(":")[2])
        for rest in RESTS:
            if entry is LIMITED and not rest:
                continue  # the quota refuses polite callers that never pause
            for name, greedy in kinds.items():
                yield name, rest, visit(port, body, greedy_body, seconds, rest, greedy)


def cost() -> dict[str, float]:
    """Return the CPU time of a request in µs: through nothing, with an account, and with both quotas."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quotas.json"
        path.write_text(json.dumps({"default": {"requestsPerSecond": 1e6, "rowsPerSecond": 1e7}}))
        known, limited = (Settings(model_uri="file:///model", quotas_file=each) for each in (None, path))
        within = Limits(known, known.max_concurrency)
        apps: dict[str, ASGIApp] = {
            "nothing": _app(None),
            "account": Guard(_app(within), Callers(known), known),
            "quotas": Guard(_app(within), Callers(limited), limited),
        }
        times: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(15):
            for name, app in apps.items():
                times[name].append(asyncio.run(_cpu(app)))
    return {name: round(min(found), 2) for name, found in times.items()}


def _app(within: Limits | None) -> ASGIApp:
    """Return an application that does what the service does with accounts, and nothing else."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if within:
            account = scope["account"]
            within.enter(account)
            account.rows(1)
            within.leave(account)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})

    return app


async def _cpu(app: ASGIApp) -> float:
    async def sent() -> None:
        pass

    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"90")]
    begin = time.process_time()
    for _ in range(CALLS):
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "client": ("10.0.0.1", 1)}

        def send(message: Message, scope: Scope = scope) -> Any:  # as app.http.front
            message["headers"] = [*message["headers"], (b"x-request-id", b"")]
            if account := scope.get("account"):
                message["headers"] += account.headers(time.monotonic())
            return sent()

        await app(scope, sent, send)  # type: ignore[arg-type]
    return (time.process_time() - begin) / CALLS * 1e6


def _request(body: bytes) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main(given: Sequence[str] | None = None) -> int:
    """Print the figures; the status is 1 if quotas cost more than the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rows", type=int, default=1, help="in a request of the greedy caller")
    parser.add_argument("--cost", action="store_true", help="measure only the cost of a request")
    arguments = parser.parse_args(given)
    spent = cost()
    more = spent["quotas"] - spent["account"]
    print(f"account {spent['account'] - spent['nothing']:.1f} µs, quotas {more:.1f} µs more (at most {MOST_US})")
    if arguments.cost:
        return int(more > MOST_US)
    try:
        os.sched_setaffinity(0, {int(CLIENT_CORE)})
        found = shares(arguments.rounds, arguments.seconds, arguments.rows)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    for rest, by in found.items():
        for name, figures in by.items():
            ratio = figures["p99_ms"] / by["alone"]["p99_ms"]
            print(f"pause {rest:5} {name:9} {ratio:5.2f} x alone  {figures}")
    return int(more > MOST_US)


if __name__ == "__main__":
    sys.exit(main())
