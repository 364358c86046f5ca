"""Client load: wrk sends requests to one server, from the other core."""

import json
import os
from pathlib import Path

from tools.bench.entries import OURS
from tools.bench.models import Model
from tools.bench.servers import CLIENT_CORE, Server
from tools.cluster.console import Failure, run
from tools.cluster.preflight import install_packages

LOADS = ((1, 1), (1, 16), (1, 64), (100, 16), (1000, 4))  # rows, connections
OTHER_LOADS = ((1, 16), (100, 16))  # of the other ways to ask a server
WARM_UP_SECONDS = 1
_SCRIPT = Path(__file__).with_name("load.lua")
_TIMEOUT = "10s"  # of one request: slower ones count as failed


def preflight() -> None:
    """Install what is missing, or report it, before any measurement.

    Raises:
        Failure: a program or a core is missing.
    """
    install_packages({"wrk": "wrk", "taskset": "util-linux"})
    if not {0, 1} <= os.sched_getaffinity(0):
        raise Failure("The server and the client need a core each, 0 and 1. Run on a machine with two cores.")


def label(rows: int, connections: int) -> str:
    return f"{rows} x {connections}"


def visit(server: Server, model: Model, seconds: int, place: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of each load, by the name of each way to ask the server."""
    return {
        name: {
            label(rows, connections): measure(
                server, name, _file(server, name, model, rows, place), connections, seconds
            )
            for rows, connections in (LOADS if name == server.entry.name else OTHER_LOADS)
        }
        for name in server.entry.ways
    }


def warm_up(server: Server, model: Model, place: Path) -> None:
    name = server.entry.name
    _wrk(server, name, _file(server, name, model, 1, place), 16, WARM_UP_SECONDS)


def measure(server: Server, way: str, body: Path, connections: int, seconds: int) -> dict[str, float]:
    """Put one load on the server, by one of the entry's ways, and return its figures.

    Raises:
        Failure: no request succeeded, or one of the service's own failed.
    """
    for longer in (1, 5):  # at least a few requests, even of a slow server
        cpu = server.cpu_seconds()
        said = _wrk(server, way, body, connections, seconds * longer)
        cpu = server.cpu_seconds() - cpu
        if (good := said["requests"] - said["failed"]) >= 10:
            break
    if good <= 0 or (said["failed"] and server.entry.name == OURS):
        what = f"{said['failed']:.0f} of {said['requests']:.0f} requests"
        raise Failure(f"{server.entry.name}, {body.stem} x {connections}: {what} failed.")
    return {
        "requests_per_second": round(good / said["seconds"], 1),
        "cpu_us": round(cpu / said["requests"] * 1e6, 1),
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "failed": said["failed"],
    }


def _file(server: Server, way: str, model: Model, rows: int, place: Path) -> Path:
    file = place / f"{way}-{rows}.json"
    if not file.exists():
        file.write_bytes(server.entry.ways[way].content(model, rows))
    return file


def _wrk(server: Server, way: str, body: Path, connections: int, seconds: int) -> dict[str, float]:
    wrk = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", _TIMEOUT]
    headers = [f"-H{name}: {value}" for name, value in server.entry.ways[way].headers.items()]
    command = [*wrk, *headers, "-s", str(_SCRIPT), server.url(way), "--", str(body)]
    output = run(command, timeout_seconds=seconds + 60)
    said: dict[str, float] = json.loads(output.strip().rpartition("\n")[2])
    return said
