"""The paired bootstrap with models whose difference is known."""

import numpy as np
import pytest

from training.gate.bootstrap import Comparison, compare
from training.metrics.truth import Numbers, Truth

DRAWN = np.random.default_rng(0)
TRUTH = Truth(DRAWN.integers(0, 2, 400).astype(np.float64))
# Contains ties, as predictions of trees do.
GOOD = np.round(np.clip(TRUTH.target * 0.4 + DRAWN.random(400) * 0.6, 0.001, 0.999), 2)
WORSE = np.round(np.clip(TRUTH.target * 0.1 + DRAWN.random(400) * 0.9, 0.001, 0.999), 2)


def compared(champion: Numbers, candidate: Numbers, metric: str = "auc", **changes: float) -> Comparison:
    options = {"resamples": 400, "confidence": 0.95, "seed": 1} | changes
    return compare(metric, TRUTH, champion, candidate, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["auc", "logloss", "brier", "accuracy"])
def test_better_model_gains_and_worse_model_loses(metric: str) -> None:
    better, worse = compared(WORSE, GOOD, metric), compared(GOOD, WORSE, metric)

    assert 0 < better.low < better.gain < better.high
    assert worse.low < worse.gain < worse.high < 0
    assert better.gain == pytest.approx(-worse.gain)


def test_equal_predictions_have_no_gain() -> None:
    assert compared(GOOD, GOOD).low == compared(GOOD, GOOD).high == 0


def test_bounds_of_equally_good_models_contain_zero_and_widen_with_confidence() -> None:
    other = np.clip(TRUTH.target * 0.4 + np.random.default_rng(8).random(400) * 0.6, 0.001, 0.999)

    found, surer = compared(GOOD, other), compared(GOOD, other, confidence=0.999)

    assert surer.low < found.low < 0 < found.high < surer.high


def test_bounds_depend_only_on_the_seed() -> None:
    assert compared(WORSE, GOOD) == compared(WORSE, GOOD) != compared(WORSE, GOOD, seed=2)


def test_lower_bound_has_its_confidence() -> None:
    """5 % of 200 lower bounds may be above the known gain. More than 10 % are not due to chance (p < 0.002)."""
    draw, wrong = np.random.default_rng(3), 0
    for _ in range(200):
        target = draw.normal(size=80)
        truth = Truth(target)
        old, new = target + draw.normal(size=80), target + 0.8 * draw.normal(size=80)
        found = compare("rmse", truth, old, new, resamples=200, confidence=0.95, seed=1)
        wrong += found.low > 1 - 0.8
    assert wrong <= 20


def test_too_few_rows_of_a_class_are_refused() -> None:
    truth = Truth(np.array([1.0, 1, 1, 0]))

    with pytest.raises(ValueError, match="4 held-out rows are too few to compare auc"):
        compare("auc", truth, np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1]),
                resamples=100, confidence=0.9, seed=0)  # fmt: skip
