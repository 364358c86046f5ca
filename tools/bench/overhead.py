"""The cost of the metrics: CPU time per request with and without them, measured in turn."""

import statistics
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench import load
from tools.bench.entries import ENTRIES, OURS
from tools.bench.environments import environment
from tools.bench.models import SIZES, encode, train
from tools.bench.servers import running
from tools.cluster.console import step

LOADS = ((1, 1), (1, 16), (100, 16))  # rows, callers
MOST = 0.2  # of the CPU time without metrics, at one row
ON = next(each for each in ENTRIES if each.name == OURS)
OFF = replace(ON, what="the service without metrics", command="{bin}/python -m tools.bench.rivals.unmetered", others={})


def measured(rounds: int, seconds: int) -> dict[str, Any]:
    """Return by load the CPU time of a request with and without metrics, in µs, and what they add, as a share.

    Raises:
        Failure: the service cannot be measured.
    """
    times: dict[str, list[tuple[float, float]]] = {load.label(*each): [] for each in LOADS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        model = train(Path(folder) / "model", *SIZES[0])
        for number in range(rounds):
            found: dict[str, dict[str, float]] = {}
            for name in ("on", "off") if number % 2 else ("off", "on"):
                entry = ON if name == "on" else OFF
                with (
                    step(f"metrics {name}, round {number + 1}"),
                    tempfile.TemporaryDirectory(prefix="bench-") as place,
                    running(entry, environment(ON), model, Path(place)) as server,
                ):
                    server.check(model)
                    load.warm_up(server, model, Path(place))
                    found[name] = {}
                    for rows, connections in LOADS:
                        body = Path(place) / f"body-{rows}.json"
                        body.write_bytes(encode(entry.body(model, rows)))
                        figures = load.measure(server, entry.name, body, connections, seconds)
                        found[name][load.label(rows, connections)] = figures["cpu_us"]
            for label, pairs in times.items():
                pairs.append((found["on"][label], found["off"][label]))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": rounds,
        "seconds": seconds,
        "loads": {label: summary(pairs) for label, pairs in times.items()},
    }


def summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return the medians of the times with and without metrics, and of what the first has more within a round."""
    on, off = zip(*pairs, strict=True)
    return {
        "on_us": round(statistics.median(on), 1),
        "off_us": round(statistics.median(off), 1),
        "more": round(statistics.median(a / b - 1 for a, b in pairs), 3),
    }


def too_much(found: dict[str, Any]) -> bool:
    """Return whether metrics cost more than the limit at one row."""
    return any(each["more"] > MOST for label, each in found["loads"].items() if label.startswith("1 x"))
