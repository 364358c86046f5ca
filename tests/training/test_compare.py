"""The metrics against scikit-learn's, and what the bootstrap says of models whose difference is known."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    ndcg_score,
    roc_auc_score,
    root_mean_squared_error,
)

from training.compare import DEFAULT_METRIC, METRICS, Comparison, Numbers, Truth, compare

DRAWN = np.random.default_rng(0)
TRUTH = Truth(DRAWN.integers(0, 2, 400).astype(np.float64))
# Tied in places, as the leaves of trees are.
GOOD = np.round(np.clip(TRUTH.target * 0.4 + DRAWN.random(400) * 0.6, 0.001, 0.999), 2)
WORSE = np.round(np.clip(TRUTH.target * 0.1 + DRAWN.random(400) * 0.9, 0.001, 0.999), 2)


def compared(champion: Numbers, candidate: Numbers, metric: str = "auc", **changes: float) -> Comparison:
    options = {"resamples": 400, "confidence": 0.95, "seed": 1} | changes
    return compare(metric, TRUTH, champion, candidate, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("auc", roc_auc_score),
        ("logloss", log_loss),
        ("accuracy", lambda truth, p: accuracy_score(truth, p >= 0.5)),
        ("brier", brier_score_loss),
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
    ],
)
def test_metric_is_scikit_learns_also_with_weights(name: str, reference: object) -> None:
    weights = np.bincount(DRAWN.integers(400, size=400), minlength=400).astype(np.float64)
    rows = np.repeat(np.arange(400), weights.astype(int))

    units, weighted = METRICS[name].prepare(TRUTH, GOOD)

    assert units == 400
    assert METRICS[name].value(TRUTH, GOOD) == pytest.approx(reference(TRUTH.target, GOOD))  # type: ignore[operator]
    assert weighted(weights) == pytest.approx(reference(TRUTH.target[rows], GOOD[rows]))  # type: ignore[operator]


def test_several_classes_are_scikit_learns_too() -> None:
    truth = Truth(np.arange(90, dtype=np.float64) % 3)
    shares = DRAWN.dirichlet([1, 1, 1], 90)

    assert METRICS["logloss"].value(truth, shares) == pytest.approx(log_loss(truth.target, shares))
    assert METRICS["accuracy"].value(truth, shares) == pytest.approx(accuracy_score(truth.target, shares.argmax(1)))


def test_ndcg_is_scikit_learns_mean_over_groups() -> None:
    groups = DRAWN.permutation(np.repeat(np.arange(12), 5))
    truth, scores = Truth(DRAWN.integers(0, 3, 60).astype(np.float64), groups), DRAWN.random(60)

    units, _ = METRICS["ndcg"].prepare(truth, scores)
    found = METRICS["ndcg"].value(truth, scores)

    own = [
        ndcg_score([2 ** truth.target[groups == g] - 1], [scores[groups == g]])
        if truth.target[groups == g].any()
        else 1
        for g in range(12)
    ]
    assert units == 12
    assert found == pytest.approx(np.mean(own))


@pytest.mark.parametrize("metric", ["auc", "logloss", "brier", "accuracy"])
def test_a_better_model_gains_and_a_worse_one_loses(metric: str) -> None:
    better, worse = compared(WORSE, GOOD, metric), compared(GOOD, WORSE, metric)

    assert 0 < better.low < better.gain < better.high
    assert worse.low < worse.gain < worse.high < 0
    assert better.gain == pytest.approx(-worse.gain)


def test_the_same_predictions_gain_nothing() -> None:
    assert compared(GOOD, GOOD).low == compared(GOOD, GOOD).high == 0


def test_equally_good_models_have_bounds_around_zero_and_more_confidence_widens_them() -> None:
    other = np.clip(TRUTH.target * 0.4 + np.random.default_rng(8).random(400) * 0.6, 0.001, 0.999)

    found, surer = compared(GOOD, other), compared(GOOD, other, confidence=0.999)

    assert surer.low < found.low < 0 < found.high < surer.high


def test_bounds_follow_from_the_seed() -> None:
    assert compared(WORSE, GOOD) == compared(WORSE, GOOD) != compared(WORSE, GOOD, seed=2)


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    """Of 200 draws of a known gain, 5 % may have a lower bound above it; more than 10 % is no chance (p < 0.002)."""
    draw, wrong = np.random.default_rng(3), 0
    for _ in range(200):
        target = draw.normal(size=80)
        truth = Truth(target)
        old, new = target + draw.normal(size=80), target + 0.8 * draw.normal(size=80)
        found = compare("rmse", truth, old, new, resamples=200, confidence=0.95, seed=1)
        wrong += found.low > 1 - 0.8
    assert wrong <= 20


def test_rows_of_one_class_are_too_few() -> None:
    truth = Truth(np.array([1.0, 1, 1, 0]))

    with pytest.raises(ValueError, match="4 held-out rows are too few to compare auc"):
        compare("auc", truth, np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1]),
                resamples=100, confidence=0.9, seed=0)  # fmt: skip


def test_every_task_has_a_metric_of_its_own() -> None:
    assert all(task in METRICS[name].tasks for task, name in DEFAULT_METRIC.items())
