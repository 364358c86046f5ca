"""CPU time per request with and without the metrics, a challenger and the inference log, measured in turn."""

import json
import statistics
import tempfile
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench import load
from tools.bench.entries import ENTRIES, OURS
from tools.bench.environments import environment
from tools.bench.models import SIZES, encode, train
from tools.bench.servers import Server, running
from tools.cluster.console import step
from tools.loopback import until

CHALLENGER = "MODEL_SERVICE_CHALLENGER_URI"
LOADS = ((1, 1), (1, 16), (100, 16))  # rows, callers
MOST = {"metrics": 0.2, "challenger": 0.05, "log": 0.03}  # of the CPU time without it, at one row
LOG = {"MODEL_SERVICE_PAYLOAD_DIR": "{place}", "MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO": "1"}
ON = next(each for each in ENTRIES if each.name == OURS)
OFF = replace(ON, what="the service without metrics", command="{bin}/python -m tools.bench.rivals.unmetered", others={})


def measured(what: str, rounds: int, seconds: int) -> dict[str, Any]:
    """Return by load the CPU time of a request with and without something, in µs, and what it adds, as a share.

    Args:
        what: metrics, challenger or log.
        rounds: How often both take turns.
        seconds: Duration of each load.

    Raises:
        Failure: the service cannot be measured.
    """
    times: dict[str, list[tuple[float, float]]] = {load.label(*each): [] for each in LOADS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        features, trees = SIZES[0]
        model = train(Path(folder) / "model", features, trees)
        on, off = ON, OFF
        if what == "challenger":
            other = train(Path(folder) / "challenger", features, trees + 1)
            on, off = replace(ON, environment=ON.environment | {CHALLENGER: other.folder.as_uri()}, others={}), ON
        elif what == "log":
            on, off = replace(ON, environment=ON.environment | LOG, others={}), ON
        for number in range(rounds):
            found: dict[str, dict[str, float]] = {}
            for name in ("on", "off") if number % 2 else ("off", "on"):
                entry = on if name == "on" else off
                with (
                    step(f"{what} {name}, round {number + 1}"),
                    tempfile.TemporaryDirectory(prefix="bench-") as place,
                    running(entry, environment(ON), model, Path(place)) as server,
                ):
                    server.check(model)
                    if CHALLENGER in entry.environment:
                        _wait_for_challenger(server)
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
    """Return the medians of the times with and without it, and of what the first has more within a round."""
    on, off = zip(*pairs, strict=True)
    return {
        "on_us": round(statistics.median(on), 1),
        "off_us": round(statistics.median(off), 1),
        "more": round(statistics.median(a / b - 1 for a, b in pairs), 3),
    }


def _wait_for_challenger(server: Server) -> None:
    """Wait until the challenger is compared, so that its loading is not measured."""

    def compared() -> bool:
        with urllib.request.urlopen(f"{server.address}/model") as answer:  # noqa: S310 - our own server
            return bool(json.load(answer)["challenger"]["state"] == "comparing")

    until(compared, 60)


def too_much(what: str, found: dict[str, Any]) -> bool:
    """Return whether it costs more than the limit at one row."""
    return any(each["more"] > MOST[what] for label, each in found["loads"].items() if label.startswith("1 x"))
