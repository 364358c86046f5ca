"""Fits with `xgboost.train` in one process, without checkpoints. Pure: data and parameters in, booster out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from training.data.dataset import Data
from training.data.matrices import matrix, training_matrix
from training.data.split import Rows, Split
from training.fitting.finite import last_if_none
from training.fitting.objectives import DEFAULTS, eval_metric
from training.fitting.parameter_check import refusal
from training.metrics.catalog import metric_of
from training.progress import Rounds, bar

_MORE_IS_BETTER = ("auc", "ndcg", "map", "pre")


@dataclass(frozen=True)
class Chosen:
    """A number of rounds with its score over the folds. `history` contains a value per round by fold and metric."""

    rounds: int
    score: float
    spread: float
    history: dict[str, list[float]]


@dataclass(frozen=True)
class Fitted:
    """A booster that was fitted on all rows outside the holdout, and the history of its training loss."""

    booster: xgb.Booster
    params: dict[str, Any]
    rounds: int
    history: dict[str, list[float]]

    @property
    def ubj(self) -> bytes:
        """Content of the model file, which is registered and whose sha256 is recorded."""
        return bytes(self.booster.save_raw("ubj"))


def parameters(data: Data, wanted: Mapping[str, Any], metric: str = "") -> dict[str, Any]:
    """Return XGBoost's parameters for the task of the data. `wanted` overrides the defaults of the task.

    Args:
        data: The data.
        wanted: Parameters that the user sets.
        metric: Metric by which the model is judged. Empty for the defaults of the task.
    """
    classes = {"num_class": len(data.classes)} if data.task == "multiclass" else {}
    name = eval_metric(data.task, wanted, metric) if metric else ""
    judged = {"eval_metric": name} if name else {}
    return DEFAULTS[data.task] | {"tree_method": "hist"} | classes | judged | dict(wanted)


def own_metric(data: Data, params: Mapping[str, Any], metric: str) -> str:
    """Return the metric if this module computes it in each round, or "" if XGBoost has one of the same order."""
    return "" if not metric or eval_metric(data.task, params, metric) else metric


def more_is_better(params: Mapping[str, Any], own: str = "") -> bool:
    """Return whether a higher value of the early stopping metric is better."""
    if own:
        return metric_of(own).sign > 0
    metric = params["eval_metric"]
    last = str(metric[-1] if isinstance(metric, list) else metric)
    return last.startswith(_MORE_IS_BETTER) and last != "mape"


def choose_rounds(
    data: Data, split: Split, params: Mapping[str, Any], rounds: int, early_stopping: int, nthread: int, own: str = ""
) -> Chosen:
    """Return the mean over the folds of the number of rounds with the best validation score.

    Args:
        data: The data.
        split: Its folds are used in turn.
        params: Parameters of XGBoost. The last `eval_metric` is the score, unless there is an `own` metric.
        rounds: Greatest number of rounds.
        early_stopping: Rounds without improvement that end a fold, or 0.
        nthread: Number of threads.
        own: Metric that XGBoost does not have.

    Raises:
        InputError: XGBoost refuses a parameter.
    """
    bests: list[int] = []
    scores: list[float] = []
    history: dict[str, list[float]] = {}
    with bar("choose the rounds", rounds * len(split.folds), "round") as progress:
        for number, (train, validation) in enumerate(split.folds):
            found: dict[str, dict[str, list[float]]] = {}
            booster = _train(
                dict(params) | {"nthread": nthread},
                training_matrix(data, train, params, nthread),
                num_boost_round=rounds,
                evals=[(matrix(data, validation, nthread), "validation")],
                early_stopping_rounds=early_stopping or None,
                evals_result=found,
                callbacks=[Rounds(progress)],
                **(_own(data, validation, own) if own else {}),
            )
            metric, values = next(reversed(found["validation"].items()))
            best = int(booster.best_iteration) if early_stopping else len(values) - 1
            scores.append(values[best])
            bests.append(1 + (last_if_none(best, values, rounds, metric) if early_stopping else best))
            fold = f"fold{number}." if len(split.folds) > 1 else ""
            history |= {f"{fold}validation_{name}": curve for name, curve in found["validation"].items()}
    return chosen(bests, scores, history)


def chosen(rounds: Sequence[int], scores: Sequence[float], history: dict[str, list[float]]) -> Chosen:
    """Return the mean of the rounds and of the scores over the folds."""
    with np.errstate(invalid="ignore"):  # a score may be infinite
        spread = float(np.std(scores))
    return Chosen(max(1, round(float(np.mean(rounds)))), float(np.mean(scores)), spread, history)


def fit(data: Data, rows: Rows, params: Mapping[str, Any], rounds: int, nthread: int) -> Fitted:
    """Fit with a fixed number of rounds, so that only data, parameters and XGBoost's version determine the file.

    Raises:
        InputError: XGBoost refuses a parameter.
    """
    found: dict[str, dict[str, list[float]]] = {}
    train = training_matrix(data, rows, params, nthread)
    with bar("fit", rounds, "round") as progress:
        booster = _train(
            dict(params) | {"nthread": nthread},
            train,
            num_boost_round=rounds,
            evals=[(train, "train")],
            evals_result=found,
            callbacks=[Rounds(progress)],
        )
    history = {f"train_{name}": values for name, values in found["train"].items()}
    return Fitted(booster, dict(params), rounds, history)


def _own(data: Data, rows: Rows, name: str) -> dict[str, Any]:
    """Return the arguments of XGBoost for a metric that it does not have."""
    metric, truth = metric_of(name), data.truth.rows(rows)

    def value(output: Any, _: xgb.DMatrix) -> tuple[str, float]:
        return name, metric.value(truth, np.asarray(output, dtype=np.float64))

    return {"custom_metric": value, "maximize": metric.sign > 0}


def _train(params: Mapping[str, Any], train: xgb.DMatrix, **arguments: Any) -> xgb.Booster:
    try:
        return xgb.train(dict(params), train, verbose_eval=False, **arguments)
    except (xgb.core.XGBoostError, ValueError) as error:
        raise refusal(error) from None
