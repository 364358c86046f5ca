"""Objectives with their own metrics, and metrics that users choose, for early stopping, the record and the gate."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.model.contract import Task
from tests.training.behaviour.test_served import answers, served
from training.data.dataset import load
from training.data.matrices import matrix
from training.data.split import split
from training.errors import InputError
from training.fitting.fit import choose_rounds, fit, more_is_better, own_metric, parameters
from training.fitting.objectives import check_objective, eval_metric, metric_name
from training.metrics.catalog import metric_of
from training.metrics.truth import Truth
from training.reproduction.retrain import retrain
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.train_options import TrainOptions


def judged(task: Task, params: dict[str, Any], wanted: str) -> str:
    check_objective(task, params)
    return metric_name(task, params, wanted)


@pytest.mark.parametrize(
    ("task", "params", "wanted", "metric", "stopping"),
    [
        ("binary", {}, "", "", "logloss"),
        ("binary", {}, "auc", "auc", "auc"),
        ("binary", {}, "f1", "f1", ""),
        ("multiclass", {}, "accuracy", "accuracy", "merror"),
        ("regression", {"objective": "reg:quantileerror", "quantile_alpha": 0.9}, "", "pinball_0.9", "quantile"),
        ("regression", {"objective": "reg:tweedie"}, "", "tweedie_deviance_1.5", "tweedie-nloglik@1.5"),
        ("regression", {"objective": "count:poisson"}, "", "poisson_deviance", "poisson-nloglik"),
        ("regression", {"objective": "reg:gamma"}, "mae", "mae", "mae"),
        ("regression", {}, "pinball_0.9", "pinball_0.9", ""),
    ],
)
def test_objective_or_user_names_the_metric(
    task: Task, params: dict[str, Any], wanted: str, metric: str, stopping: str
) -> None:
    assert judged(task, params, wanted) == metric
    if metric:
        assert eval_metric(task, params, metric) == stopping


@pytest.mark.parametrize(
    ("task", "params", "wanted", "sentence"),
    [
        ("multiclass", {"objective": "multi:softmax"}, "", "does not predict probabilities; use multi:softprob"),
        ("binary", {"objective": "reg:tweedie"}, "", "reg:tweedie is not an objective of a binary model"),
        ("regression", {"quantile_alpha": [0.1, 0.9]}, "", "train a model for each quantile"),
        (
            "regression",
            {},
            "auc",
            r"--metric \(TRAINING_METRIC\): auc is not a metric of a regression model. Use one of",
        ),
        ("binary", {"eval_metric": "auc"}, "f1", "remove eval_metric from --params"),
    ],
)
def test_objective_or_metric_of_another_task_is_refused(
    task: Task, params: dict[str, Any], wanted: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        judged(task, params, wanted)


def test_misspelled_metric_is_refused() -> None:
    with pytest.raises(InputError, match=r"--metric \(TRAINING_METRIC\): 'f2' is not a metric; use one of auc, "):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--metric=f2"])


def test_early_stopping_by_a_metric_that_xgboost_does_not_have() -> None:
    """The chosen round has the best F1 of the validation rows, computed for each prefix of the trees."""
    options = TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--max-depth=2"])
    data = load()
    parts = split(data, options.split_spec)
    params = parameters(data, options.booster_params, "f1")
    own = own_metric(data, params, "f1")

    chosen = choose_rounds(data, parts, params, 40, 5, 1, own)

    ((train, validation),) = parts.folds
    booster = fit(data, train, params, 40, 1).booster
    rows, truth = matrix(data, validation, 1), Truth.of(data.target, None, None).rows(validation)
    curve = [metric_of("f1").value(truth, booster.predict(rows, iteration_range=(0, n))) for n in range(1, 41)]
    stopped = len(chosen.history["validation_f1"])
    assert own == "f1"
    assert more_is_better(params, own)
    assert chosen.history["validation_f1"] == pytest.approx(curve[:stopped])
    assert chosen.rounds == int(np.argmax(curve[:stopped])) + 1
    assert stopped == min(chosen.rounds + 5, 40)
    assert "validation_logloss" in chosen.history


@pytest.mark.parametrize(
    ("params", "metric"),
    [
        ('{"objective": "reg:quantileerror", "quantile_alpha": 0.9}', "pinball_0.9"),
        ('{"objective": "reg:tweedie", "tweedie_variance_power": 1.2}', "tweedie_deviance_1.2"),
        ('{"objective": "reg:gamma"}', "gamma_deviance"),
    ],
)
def test_objective_is_judged_by_its_metric_served_and_reproduced(tmp_path: Path, params: str, metric: str) -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"x": draw.random(300).round(3)})
    table["paid"] = (draw.gamma(2, 1 + table["x"] * 5) + 0.01).round(3)
    table.to_csv(tmp_path / "table.csv", index=False)

    data, fitted, model = served(tmp_path, tmp_path / "table.csv", "--target=paid", f"--params={params}")

    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    assert model.contract
    assert recorded.metric == model.contract.metric == metric
    assert model.contract.metrics[metric] == recorded.metrics[f"holdout_{metric}"] > 0
    own = fitted.booster.predict(matrix(data, np.arange(300), 1)).reshape(-1, 1)
    np.testing.assert_array_equal(answers(data, model), own)
    again = retrain(recorded, "", 2, "")
    assert again.fitted.ubj == (tmp_path / "work/model.ubj").read_bytes()
    assert again.metrics[f"holdout_{metric}"] == recorded.metrics[f"holdout_{metric}"]
