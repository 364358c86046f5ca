"""One run: rounds in which the servers take turns. Each round is stored, so that an interrupted run can resume."""

import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench import load
from tools.bench.entries import ENTRIES, NOOP, OURS, Entry
from tools.bench.environments import PLACE, environment, sizes, versions
from tools.bench.models import SIZES, Model, train
from tools.bench.servers import CLIENT_CORE, running
from tools.bench.summary import Visit, summary
from tools.cluster.console import Failure, say, step

VISITS = PLACE / "visits.jsonl"


def install(only: list[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the environments by entry, and the reason for each that cannot be installed; both are printed, too."""
    places: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for entry in _entries(only):
        with _excused(entry, missing):
            places[entry.name] = environment(entry)
    return places, missing


def measured(only: list[str], models: int, rounds: int, seconds: int, *, resume: bool = False) -> dict[str, Any]:
    """Install, measure in rounds, and return the result as docs/reference/benchmark.json has it.

    Args:
        only: names of entries.
        models: how many of SIZES.
        seconds: of each load.
        resume: keep what the last run measured before it was interrupted.

    Raises:
        Failure: the service itself, or the no-op, cannot be measured.
    """
    places, missing = install(only)
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    if not resume or not VISITS.exists():
        begun = {"date": datetime.now(UTC).date().isoformat(), "load_before": round(os.getloadavg()[0], 2)}
        VISITS.write_text(json.dumps(begun) + "\n")
    begun, *visits = map(json.loads, VISITS.read_text().splitlines())
    done = {(each["model"], each["round"], each["entry"]) for each in visits}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        trained = [train(Path(folder) / f"model-{size[0]}", *size) for size in SIZES[:models]]
        for number in range(rounds):
            for model in trained:
                for entry in _turns(only, number):
                    if entry.name in missing or (model.name, number, entry.name) in done:
                        continue
                    with _excused(entry, missing):
                        visits.append(_visit(entry, places[entry.name], model, number, seconds))
                        with VISITS.open("a") as kept:
                            kept.write(json.dumps(visits[-1]) + "\n")
    return {
        **begun,
        "machine": _machine(),
        "rounds": rounds,
        "seconds": seconds,
        "entries": {
            entry.name: {
                "what": entry.what,
                "versions": versions(places[entry.name], entry) if entry.name in places else {},
                **(sizes(places[entry.name]) if entry.name in places else {}),
                "missing": missing.get(entry.name),
            }
            for entry in _entries(only)
        },
        "models": summary(visits),
    }


def _entries(only: list[str]) -> list[Entry]:
    return [entry for entry in ENTRIES if entry.name in only]


def _turns(only: list[str], number: int) -> list[Entry]:
    """Return the order of the servers in a round. Each round begins with a different one."""
    entries = _entries(only)
    first = number % len(entries)
    return entries[first:] + entries[:first]


def _visit(entry: Entry, place: Path, model: Model, number: int, seconds: int) -> Visit:
    """Start the server, check it, put each load on it, end it."""
    with (
        step(f"{entry.name}, {model.name}, round {number + 1}"),
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        running(entry, place, model, Path(folder)) as server,
    ):
        server.check(model)
        load.warm_up(server, model, Path(folder))
        memory = server.memory()
        loads = load.visit(server, model, seconds, Path(folder))
        after = server.memory()["rss_mib"]
    start = {"ready_seconds": round(server.ready_seconds, 3), **memory, "rss_after_mib": after}
    return {"model": model.name, "round": number, "entry": entry.name, "start": start, "loads": loads}


@contextmanager
def _excused(entry: Entry, missing: dict[str, str]) -> Iterator[None]:
    """Continue the run without a rival that fails, and record the reason."""
    try:
        yield
    except Failure as failure:
        if entry.name in (OURS, NOOP):
            raise
        say(f"{entry.name} is left out: {failure}")
        missing[entry.name] = reason(str(failure))


def reason(text: str) -> str:
    """Return the line of a failure that names its cause, without paths of this machine. The user saw all of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(error|cause): |[\w.]+Error\b", line)] or lines[:1]
    return re.sub(r"/[\w.@/-]+/", "…/", telling[-1])[:300]


def _machine() -> dict[str, Any]:
    models = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
    }
