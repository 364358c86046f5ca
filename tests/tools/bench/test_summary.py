"""Tests of medians and ratios with rounds that were computed by hand."""

from typing import Any

import pytest

from tools.bench.summary import Visit, ratio, summary


def visit(entry: str, number: int, rate: float, p50: float = 1.0, load: str = "100 x 16") -> Visit:
    figures = {"requests_per_second": rate, "cpu_us": 1e6 / rate, "p50_ms": p50, "p99_ms": 2 * p50, "failed": 0.0}
    start = {"ready_seconds": float(number), "rss_mib": rate}
    return {"model": "30 x 100", "round": number, "entry": entry, "start": start, "loads": {entry: {load: figures}}}


def found(visits: list[Visit]) -> Any:
    return summary(visits)["30 x 100"]["loads"]["100 x 16"]


def test_figures_are_medians_and_ratios_are_per_round() -> None:
    # The machine was ten times slower in round 1: the ratio of the medians would be 0.2.
    rates = {0: (2000, 1000), 1: (200, 100), 2: (1800, 1200)}
    visits = [
        visit(name, number, rate)
        for number, pair in rates.items()
        for name, rate in zip(("model-service", "noop"), pair, strict=True)
    ]
    it = found(visits)["servers"]["model-service"]
    assert it["requests_per_second"] == 1800
    assert (it["slowest"], it["fastest"]) == (200, 2000)
    assert it["rows_per_second"] == 180_000
    assert it["to_noop"] == 2.0
    assert summary(visits)["30 x 100"]["start"]["noop"]["ready_seconds"] == 1.0


def test_best_and_fastest_rival_may_differ() -> None:
    visits = [
        visit("model-service", 0, 900, p50=1.0),
        visit("noop", 0, 5000, p50=0.1),
        visit("kserve", 0, 300, p50=4.0),
        visit("mlserver", 0, 200, p50=2.0),
    ]
    ours = found(visits)["ours"]
    assert (ours["best_rival"], ours["requests_to_best"]) == ("kserve", 3.0)
    assert (ours["quickest_rival"], ours["p50_to_quickest"], ours["p99_to_quickest"]) == ("mlserver", 0.5, 0.5)


def test_unmeasured_rival_is_not_compared() -> None:
    it = found([visit("model-service", 0, 900)])
    assert it["servers"]["model-service"]["to_noop"] is None
    assert it["ours"]["best_rival"] is None
    assert it["ours"]["requests_to_best"] is None


@pytest.mark.parametrize(("rounds", "expected"), [({0, 1}, 2.0), ({1}, 3.0), (set(), None)])
def test_ratio_uses_only_common_rounds(rounds: set[int], expected: float | None) -> None:
    one = {0: {"requests_per_second": 10.0}, 1: {"requests_per_second": 30.0}}
    other = {number: {"requests_per_second": 10.0} for number in rounds}
    assert ratio(one, other) == expected
