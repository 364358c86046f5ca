"""Medians and ratios of one run. Pure: figures in, figures out."""

import statistics
from typing import Any, TypedDict

from tools.bench.entries import NOOP, OURS, RIVALS


class Visit(TypedDict):
    """What one start of one server gave, in one round.

    `loads` holds, by the server's name (with the form of the body if it is another one) and by load, the figures of
    tools.bench.load.measure; `start` those of the start and of the memory.
    """

    model: str
    round: int
    entry: str
    start: dict[str, float]
    loads: dict[str, dict[str, dict[str, float]]]


def summary(visits: list[Visit]) -> dict[str, Any]:
    """Return by model the medians of the rounds, and the medians of the ratios within the rounds.

    Ratios are taken within a round, because the machine's mood is in every figure of it.
    """
    return {model: _of_model([each for each in visits if each["model"] == model]) for model in _models(visits)}


def _models(visits: list[Visit]) -> list[str]:
    return list(dict.fromkeys(each["model"] for each in visits))


def _of_model(visits: list[Visit]) -> dict[str, Any]:
    rounds: dict[str, dict[str, dict[int, dict[str, float]]]] = {}  # load, server, round
    starts: dict[str, list[dict[str, float]]] = {}
    for each in visits:
        starts.setdefault(each["entry"], []).append(each["start"])
        for server, loads in each["loads"].items():
            for load, figures in loads.items():
                rounds.setdefault(load, {}).setdefault(server, {})[each["round"]] = figures
    return {
        "start": {server: medians(each) for server, each in starts.items()},
        "loads": {load: _of_load(load, servers) for load, servers in rounds.items()},
    }


def _of_load(load: str, servers: dict[str, dict[int, dict[str, float]]]) -> dict[str, Any]:
    rows = int(load.partition(" ")[0])
    found: dict[str, Any] = {}
    for server, rounds in servers.items():
        rates = [each["requests_per_second"] for each in rounds.values()]
        found[server] = medians(list(rounds.values())) | {
            "slowest": min(rates),
            "fastest": max(rates),
            "rows_per_second": round(statistics.median(rates) * rows),
            "to_noop": ratio(rounds, servers.get(NOOP, {})),
        }
    rivals = [server for server in servers if server in RIVALS]
    best = max(rivals, key=lambda server: found[server]["requests_per_second"], default=None)
    quickest = min(rivals, key=lambda server: found[server]["p50_ms"], default=None)
    ours = servers.get(OURS, {})
    against = {
        "best_rival": best,
        "requests_to_best": ratio(ours, servers[best]) if best else None,
        "quickest_rival": quickest,
        "p50_to_quickest": ratio(ours, servers[quickest], "p50_ms") if quickest else None,
        "p99_to_quickest": ratio(ours, servers[quickest], "p99_ms") if quickest else None,
    }
    return {"servers": found, "ours": against}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]}


def ratio(
    one: dict[int, dict[str, float]], other: dict[int, dict[str, float]], figure: str = "requests_per_second"
) -> float | None:
    """Return the median of one server's figure to another's, over the rounds that have both."""
    both = [one[number][figure] / other[number][figure] for number in one.keys() & other.keys()]
    return round(statistics.median(both), 3) if both else None
