"""Tests that the drift rules, evaluated by promtool, match NumPy for pods that start, stop and restart."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.charts.harness import Promtool
from tests.charts.test_rules import rule_spec

MODEL = 'namespace="models",job="demo-model-service",model_name="churn",model_version="7"'
SCRAPES_PER_HOUR, LAST = 240, 480  # one scrape each 15 s; the last sample is at the end of the second hour
TOLERANCE = 0.002  # increase() extrapolates to the edges of the window
FLOOR_TOLERANCE = 0.01  # relative, because a noise floor is as small as the tolerance above
SAMPLES = 20_000
# Role, name, number of bins and importance.
VARIABLES = (("feature", "age", 10, 0.7), ("feature", "pay", 4, 0.3), ("prediction", "score", 7, 0.0))

type Shares = np.ndarray[Any, np.dtype[np.float64]]


def psi(live: Shares, reference: Shares) -> float:
    p, r = np.maximum(live, 1e-4), np.maximum(reference, 1e-4)
    return float(((p - r) * np.log(p / r)).sum())


def js_distance(live: Shares, reference: Shares) -> float:
    middle = (live + reference) / 2

    def divergence(p: Shares) -> float:
        some = p > 0
        return float((p[some] * np.log2(p[some] / middle[some])).sum())

    return math.sqrt((divergence(live) + divergence(reference)) / 2)


def noise_floor(reference: Shares, live_samples: float) -> float:
    df = max(int((reference > 0).sum()) - 1, 1)
    quantile = df * (1 - 2 / (9 * df) + 3.0902 * math.sqrt(2 / (9 * df))) ** 3
    return float(quantile * (1 / live_samples + 1 / SAMPLES))


def series(name: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{name}{{{MODEL},{labels}}}", "values": values}


def pods(role: str, variable: str, rates: list[Shares], reference: Shares) -> list[dict[str, str]]:
    """Return the series of three pods: one runs for two hours, one restarts in the second, one runs for 15 minutes."""
    where = f'role="{role}",variable="{variable}"'
    found = [series("model_reference_distribution_samples", where, f"{SAMPLES}x{LAST}")]
    for i, share in enumerate(reference.tolist()):
        first, second, third = (rate.tolist()[i] for rate in rates)
        values = [f"0+{first}x{LAST}", f"0+{second}x399 0+{second}x{LAST - 400}", f"_x420 0+{third}x60"]
        for pod in range(3):
            bin_of_pod = f'{where},bin="{i:02d}",pod="{pod}"'
            found.append(series("model_distribution_values_total", bin_of_pod, values[pod]))
            labels = f'{bin_of_pod},upper="{i}"'
            found.append(series("model_reference_distribution_ratio", labels, f"{share}x{LAST}"))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_drift_over_three_pods_matches_numpy(promtool: Promtool, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    inputs: list[dict[str, str]] = []
    expected: list[tuple[str, float]] = []
    floors: list[tuple[str, float]] = []
    weighted = 0.0
    for role, variable, bins, importance in VARIABLES:
        reference = random.dirichlet(np.full(bins, 2.0))
        rates = [np.round(random.dirichlet(np.full(bins, 3.0)) * 40, 3) for _ in range(3)]
        rates = [np.where(np.arange(bins) == bins - 1, 0, rate) for rate in rates]  # the last bin stays empty
        # A restart loses the increase of one scrape interval.
        live = rates[0] * SCRAPES_PER_HOUR + rates[1] * (SCRAPES_PER_HOUR - 1) + rates[2] * 60
        total, shares = live.sum(), live / live.sum()
        # The first five rates of a pod cover less than five minutes, so the long window misses two minutes of it.
        total_long = float((rates[0] * (LAST - 8) + rates[1] * (LAST - 8 - 1) + rates[2] * (60 - 8)).sum())
        inputs += pods(role, variable, rates, reference)
        at = f'{{variable="{variable}"}}'
        expected += [
            (f"model:distribution_psi:short{at}", psi(shares, reference)),
            (f"model:distribution_js_distance:short{at}", js_distance(shares, reference)),
            (f"model:distribution_tvd:short{at}", float(np.abs(shares - reference).sum() / 2)),
        ]
        floors += [
            (f"model:distribution_psi_noise_floor:short{at}", noise_floor(reference, total)),
            (f"model:distribution_psi_noise_floor:long{at}", noise_floor(reference, total_long)),
        ]
        if role == "feature":
            weighted += importance * psi(shares, reference)
            labels = f'variable="{variable}",pod="0"'
            inputs.append(series("model_feature_importance_ratio", labels, f"{importance}x{LAST}"))
        else:
            positive = np.linspace(0.05, 0.95, bins)
            for i, share in enumerate(positive):
                labels = f'variable="{variable}",bin="{i:02d}",pod="0"'
                inputs.append(series("model_reference_positive_ratio", labels, f"{share}x{LAST}"))
            expected.append(("model:estimated_positive:ratio_short", float((shares * positive).sum())))
    expected.append(("model:feature_psi_importance_weighted:short", weighted))
    cases = [
        {
            "expr": f"count(abs({expression} - {value!r}) < {tolerance})",
            "eval_time": "2h",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for expression, value, tolerance in [
            *((expression, value, TOLERANCE) for expression, value in expected),
            *((expression, value, FLOOR_TOLERANCE * value) for expression, value in floors),
        ]
    ]
    test = {"interval": "15s", "input_series": inputs, "promql_expr_test": cases}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_spec()))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    assert len({value for _, value in expected + floors}) == len(cases) == 17
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "test.yaml")
