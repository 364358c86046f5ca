"""The concordance, compared with that of lifelines and with its definition."""

import json
from itertools import product

import numpy as np
import pytest

from tests.training.lifelines_reference import SIZES, reference
from training.metrics.catalog import metric_of
from training.metrics.truth import Numbers, Truth

CONCORDANCE = metric_of("concordance")


def test_concordance_of_times_and_risks_equals_that_of_lifelines() -> None:
    cases = json.loads((reference() / "concordance.json").read_text())

    assert len(cases) == len(SIZES)
    for case in cases:
        times = np.array(case["times"], dtype=np.float64)
        upper = np.where(case["observed"], times, np.inf)
        predictions = np.array(case["predictions"], dtype=np.float64)
        assert CONCORDANCE.value(Truth(times, upper=upper), predictions) == pytest.approx(case["concordance"])
        risks = Truth(times, upper=upper, by_risk=True)
        assert CONCORDANCE.value(risks, 1 / predictions) == pytest.approx(case["concordance"])


def defined(lower: Numbers, upper: Numbers, predictions: Numbers, counts: Numbers) -> float:
    """Return the concordance by its definition, pair by pair."""
    right = pairs = 0.0
    for i, j in product(range(len(lower)), repeat=2):
        if upper[i] < lower[j] or (upper[i] == lower[j] < upper[j]):
            pairs += counts[i] * counts[j]
            earlier = (predictions[i] < predictions[j]) + (predictions[i] == predictions[j]) / 2
            right += counts[i] * counts[j] * earlier
    return right / pairs if pairs else np.nan


@pytest.mark.parametrize("size", [3, 8, 33, 100])
def test_intervals_and_samples_are_counted_as_defined(size: int) -> None:
    draw = np.random.default_rng(size)
    lower = draw.integers(1, 15, size).astype(np.float64)
    kind = draw.integers(0, 3, size)
    upper = np.choose(kind, [lower, np.full(size, np.inf), lower + draw.integers(0, 4, size)])
    upper[lower.argmin()] = lower.min()
    predictions, weights = draw.integers(0, 6, size).astype(np.float64), draw.random(size)

    units, weighted = CONCORDANCE.prepare(Truth(lower, weights=weights, upper=upper), predictions)

    assert units == size
    for counts in (np.ones(size), draw.integers(0, 3, size).astype(np.float64)):
        expected = defined(lower, upper, predictions, counts * weights)
        assert weighted(counts) == pytest.approx(expected, nan_ok=True)


def test_concordance_without_a_pair_is_not_defined() -> None:
    assert np.isnan(CONCORDANCE.value(Truth(np.array([1.0, 2.0]), upper=np.full(2, np.inf)), np.array([1.0, 2.0])))
