"""The metrics, compared with those of scikit-learn."""

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

from training.fitting.metrics import DEFAULT_METRIC, METRICS, Truth

DRAWN = np.random.default_rng(0)
TRUTH = Truth(DRAWN.integers(0, 2, 400).astype(np.float64))
# Contains ties, as predictions of trees do.
GOOD = np.round(np.clip(TRUTH.target * 0.4 + DRAWN.random(400) * 0.6, 0.001, 0.999), 2)


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
def test_metric_equals_scikit_learn_with_and_without_weights(name: str, reference: object) -> None:
    weights = np.bincount(DRAWN.integers(400, size=400), minlength=400).astype(np.float64)
    rows = np.repeat(np.arange(400), weights.astype(int))

    units, weighted = METRICS[name].prepare(TRUTH, GOOD)

    assert units == 400
    assert METRICS[name].value(TRUTH, GOOD) == pytest.approx(reference(TRUTH.target, GOOD))  # type: ignore[operator]
    assert weighted(weights) == pytest.approx(reference(TRUTH.target[rows], GOOD[rows]))  # type: ignore[operator]


def test_multiclass_metrics_equal_scikit_learn() -> None:
    truth = Truth(np.arange(90, dtype=np.float64) % 3)
    shares = DRAWN.dirichlet([1, 1, 1], 90)

    assert METRICS["logloss"].value(truth, shares) == pytest.approx(log_loss(truth.target, shares))
    assert METRICS["accuracy"].value(truth, shares) == pytest.approx(accuracy_score(truth.target, shares.argmax(1)))


def test_ndcg_equals_the_mean_of_scikit_learn_over_groups() -> None:
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


def test_default_metric_applies_to_its_task() -> None:
    assert all(task in METRICS[name].tasks for task, name in DEFAULT_METRIC.items())
