"""A server on its own core: its start, the resources of its processes, and its end."""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tools.bench.entries import Entry
from tools.bench.models import PROBES, Model, encode
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure
from tools.loopback import free_port

SERVER_CORE, CLIENT_CORE = "0", "1"
START_SECONDS = 60
SHARED = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PROMETHEUS_DISABLE_CREATED_SERIES": "True"}
_RIVALS = Path(__file__).parent / "rivals"
_SET_CHILD_SUBREAPER = 36  # prctl(2)


@dataclass(frozen=True)
class Server:
    """A running server, with all the processes below this one."""

    entry: Entry
    address: str
    pid: int
    ready_seconds: float

    def url(self, way: str) -> str:
        """Return where one of the entry's ways leads."""
        return self.address + self.entry.ways[way].path

    def ask(self, way: str, body: bytes) -> Any:
        """Return the answer to one request.

        Raises:
            Failure: there is none, or not a good one.
        """
        try:
            return json.loads(_post(self.url(way), body, self.entry.ways[way].headers))
        except (OSError, ValueError) as error:
            raise Failure(f"{self.entry.name} gives no good answer: {_said(error)}.") from error

    def check(self, model: Model) -> None:
        """Compare its answers with the booster's.

        Raises:
            Failure: they differ.
        """
        for rows in PROBES:
            for name, way in self.entry.ways.items():
                if way.answer is None:
                    continue
                said = self.ask(name, way.content(model, rows))
                try:
                    model.check(way.answer(said), rows)
                except (KeyError, TypeError, ValueError) as error:
                    raise Failure(f"{self.entry.name} predicts something else: {error!r}.") from error

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        return sum(_cpu_seconds(pid) for pid in below(os.getpid()))

    def memory(self) -> dict[str, float]:
        """Return its resident and its proportional memory in MiB, and the number of its processes."""
        pids = below(os.getpid())
        return {
            "rss_mib": round(sum(_kib(pid, "Rss") for pid in pids) / 1024, 1),
            "pss_mib": round(sum(_kib(pid, "Pss") for pid in pids) / 1024, 1),
            "processes": len(pids),
        }


@contextmanager
def running(entry: Entry, environment: Path, model: Model, place: Path) -> Iterator[Server]:
    """Yield the server once it has answered its first request.

    Args:
        place: an empty folder that it may write to.

    Raises:
        Failure: it ended or did not answer in time; with the last lines of its log.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # so that orphans are found below this process
    port, log = free_port(), place / "log"
    known = {"bin": environment / "bin", "rivals": _RIVALS, "model": model.folder, "file": model.file}
    words = {**known, "place": place, "port": port, "spare": free_port(), "metrics": free_port()}
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODEL_SERVICE_", "PYTHON", "VIRTUAL"))
    }
    variables = {
        **SHARED,
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "BENCH_MODEL": str(model.file),
        **{key: value.format(**words) for key, value in entry.environment.items()},
    }
    command = [each.format(**words) for each in shlex.split(entry.command)]
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command],
            cwd=place if entry.packages else ROOT,
            env=clean | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(entry, process, address + entry.path, encode(entry.body(model, 1)), log)
        yield Server(entry, address, process.pid, time.monotonic() - begin)
    finally:
        _end(process)


def below(parent: int) -> list[int]:
    """Return the processes that descend from this one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, number = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(number), []).append(int(stat.parent.name))
    found, queue = [], [parent]
    while queue:
        next_ones = children.get(queue.pop(), [])
        found += next_ones
        queue += next_ones
    return found


def _wait(entry: Entry, process: subprocess.Popen[bytes], url: str, body: bytes, log: Path) -> None:
    deadline, said = time.monotonic() + START_SECONDS, "nothing"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _post(url, body)
            return
        except OSError as error:
            said = _said(error)
        time.sleep(0.01)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise Failure(f"{entry.name} did not answer within {START_SECONDS} s; last: {said}; its log:\n{last}")


def _post(url: str, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    sent = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, body, sent)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return bytes(response.read())


def _said(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read()[:300].decode(errors='replace')}"
    return str(error)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server politely, and what is then left of its processes by force."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    deadline = time.monotonic() + 3
    while (left := below(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or below(os.getpid()):
            time.sleep(0.01)


def _cpu_seconds(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _kib(pid: int, name: str) -> int:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
    return 0
