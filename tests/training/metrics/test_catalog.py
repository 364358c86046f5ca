"""The metrics, compared with those of scikit-learn."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_tweedie_deviance,
    ndcg_score,
    precision_recall_curve,
    roc_auc_score,
    root_mean_squared_error,
    root_mean_squared_log_error,
)

from training.metrics.catalog import DEFAULT_METRIC, METRIC_NAMES, METRICS, metric_of
from training.metrics.truth import Numbers, Truth

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
        ("f1", lambda truth, p: f1_score(truth, p >= 0.5)),
        ("recall_at_precision_0.7", lambda truth, p: recall_at(truth, p, 0.7)),
        ("recall_at_precision_0.999", lambda truth, p: recall_at(truth, p, 0.999)),
        ("brier", brier_score_loss),
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
    ],
)
def test_metric_equals_scikit_learn_with_and_without_weights(name: str, reference: Callable[..., float]) -> None:
    weights = np.bincount(DRAWN.integers(400, size=400), minlength=400).astype(np.float64)
    rows = np.repeat(np.arange(400), weights.astype(int))

    units, weighted = metric_of(name).prepare(TRUTH, GOOD)

    assert units == 400
    assert metric_of(name).value(TRUTH, GOOD) == pytest.approx(reference(TRUTH.target, GOOD))
    assert weighted(weights) == pytest.approx(reference(TRUTH.target[rows], GOOD[rows]))


def recall_at(truth: Numbers, scores: Numbers, least: float) -> float:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return float(recall[precision >= least].max())


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mape", mean_absolute_percentage_error),
        ("rmsle", root_mean_squared_log_error),
        ("poisson_deviance", mean_poisson_deviance),
        ("gamma_deviance", mean_gamma_deviance),
        ("pinball_0.9", partial(mean_pinball_loss, alpha=0.9)),
        ("tweedie_deviance_1.3", partial(mean_tweedie_deviance, power=1.3)),
    ],
)
def test_metric_of_a_quantity_equals_scikit_learn(name: str, reference: Callable[..., float]) -> None:
    target, predictions, weights = DRAWN.random(50) + 0.1, DRAWN.random(50) + 0.1, DRAWN.random(50)

    found = metric_of(name).value(Truth.of(target, None, weights), predictions)

    assert found == pytest.approx(reference(target, predictions, sample_weight=weights))


@pytest.mark.parametrize("weights", [None, DRAWN.integers(1, 5, 400).astype(np.float32)])
def test_aucpr_equals_xgboost(weights: Any) -> None:
    scores = np.clip(GOOD, 0.01, 0.99)
    margins = np.log(scores / (1 - scores)).astype(np.float32)
    rows = xgb.DMatrix(np.zeros((400, 1)), TRUTH.target, weight=weights, base_margin=margins)
    booster = xgb.Booster({"objective": "binary:logistic", "eval_metric": "aucpr", "nthread": 1}, [rows])

    found = metric_of("aucpr").value(Truth.of(TRUTH.target, None, weights), margins.astype(np.float64))

    assert found == pytest.approx(float(booster.eval(rows).rpartition(":")[2]), abs=2e-6)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("acc", "'acc' is not a metric; use one of auc, logloss, "),
        ("pinball_1", "must end with a number between 0 and 1, such as pinball_0.5"),
        ("tweedie_deviance_x", "must end with a number between 1 and 2, such as tweedie_deviance_1.5"),
    ],
)
def test_unknown_metric_is_refused_with_the_names(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        metric_of(name)
    assert all(metric_of(each).sign for each in METRIC_NAMES)


def test_multiclass_metrics_equal_scikit_learn() -> None:
    truth = Truth(np.arange(90, dtype=np.float64) % 3)
    shares = DRAWN.dirichlet([1, 1, 1], 90)

    assert METRICS["logloss"].value(truth, shares) == pytest.approx(log_loss(truth.target, shares))
    assert METRICS["accuracy"].value(truth, shares) == pytest.approx(accuracy_score(truth.target, shares.argmax(1)))
    macro = f1_score(truth.target, shares.argmax(1), average="macro")
    assert METRICS["f1"].value(truth, shares) == pytest.approx(macro)


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
