"""Boosters and their metrics, without MLflow."""

import math
from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb

from training.data.dataset import load
from training.data.matrices import matrix
from training.data.split import split
from training.fitting import evaluate
from training.fitting.fit import Fitted, choose_rounds, fit, more_is_better, parameters
from training.train_options import TrainOptions


def fitted(*argv: str) -> Fitted:
    options = TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", *argv])
    data = load()
    parts = split(data, options.split_spec)
    params = parameters(data, options.booster_params)
    rounds, stop = options.rounds, options.early_stopping_rounds
    if stop:
        rounds = choose_rounds(data, parts, params, rounds, stop, options.nthread).rounds
    return fit(data, parts.rest, params, rounds, options.nthread)


@pytest.fixture(scope="module")
def default() -> Fitted:
    return fitted()


def test_model_is_better_than_chance(default: Fitted) -> None:
    data = load()
    rows = split(data, TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused"]).split_spec).holdout

    metrics = evaluate.measure(data, rows, default.booster.predict(matrix(data, rows, 1)))

    assert metrics["holdout_auc"] > 0.95
    assert metrics["holdout_accuracy"] > 0.9


def test_early_stopping_leaves_no_surplus_trees(default: Fitted) -> None:
    assert default.booster.num_boosted_rounds() == default.rounds < 300
    assert default.booster.attributes() == {}


def test_rounds_are_exact_without_early_stopping() -> None:
    assert fitted("--rounds=7", "--early-stopping-rounds=0").booster.num_boosted_rounds() == 7


def test_cross_validation_is_the_mean_of_its_folds() -> None:
    data = load()
    options = TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--folds=3"])
    params = parameters(data, options.booster_params)

    chosen = choose_rounds(data, split(data, options.split_spec), params, 300, 10, 1)

    losses = [chosen.history[f"fold{number}.validation_logloss"] for number in range(3)]
    assert chosen.rounds == round(np.mean([int(np.argmin(each)) + 1 for each in losses]))
    assert chosen.score == pytest.approx(np.mean([min(each) for each in losses]))
    assert chosen.spread == pytest.approx(np.std([min(each) for each in losses]))


def test_bytes_do_not_depend_on_threads(default: Fitted) -> None:
    assert fitted("--nthread=2").ubj == default.ubj


def test_bytes_depend_on_seed(default: Fitted) -> None:
    assert fitted("--seed=1").ubj != default.ubj


def test_model_file_predicts_like_the_booster(default: Fitted) -> None:
    rows = load().features

    read_back = xgb.Booster(model_file=bytearray(default.ubj))

    assert np.array_equal(read_back.inplace_predict(rows), default.booster.inplace_predict(rows))


def test_measure_agrees_with_manual_arithmetic() -> None:
    target = np.array([0, 0, 1, 1], dtype=np.float32)
    probability = np.array([0.25, 0.75, 0.5, 1.0], dtype=np.float32)

    data = replace(load(), target=target)
    metrics = evaluate.measure(data, np.arange(4), probability)

    assert metrics["holdout_auc"] == pytest.approx(3 / 4)
    assert metrics["holdout_accuracy"] == pytest.approx(3 / 4)
    assert metrics["holdout_brier"] == pytest.approx((0.25**2 + 0.75**2 + 0.5**2) / 4)
    assert metrics["holdout_logloss"] == pytest.approx(-(math.log(0.75) + math.log(0.25) + math.log(0.5)) / 4)


def test_direction_of_a_metric_is_that_of_xgboost() -> None:
    assert [more_is_better({"eval_metric": each}) for each in ("auc", "map@3", ["rmse", "aucpr"])] == [True] * 3
    assert [more_is_better({"eval_metric": each}) for each in ("mape", "rmse", ["auc", "mape"])] == [False] * 3
