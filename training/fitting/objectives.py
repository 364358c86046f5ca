"""Objectives of XGBoost by task, and the metric that belongs to each."""

from collections.abc import Mapping
from typing import Any

from app.model.contract import Task
from training.errors import InputError
from training.metrics.catalog import DEFAULT_METRIC, metric_of, names_for
from training.train_options import SURVIVAL

DEFAULTS: dict[Task, dict[str, str]] = {
    "binary": {"objective": "binary:logistic", "eval_metric": "logloss"},
    "multiclass": {"objective": "multi:softprob", "eval_metric": "mlogloss"},
    "regression": {"objective": "reg:squarederror", "eval_metric": "rmse"},
    "ranking": {"objective": "rank:ndcg", "eval_metric": "ndcg"},
    "survival_risk": {"objective": "survival:cox", "eval_metric": "cox-nloglik"},
    "survival_time": {"objective": "survival:aft", "eval_metric": "aft-nloglik"},
}
_FAMILIES: dict[str, Task] = {
    "binary": "binary",
    "multi": "multiclass",
    "reg": "regression",
    "count": "regression",
    "rank": "ranking",
}
# Objectives whose output is not what the task promises, with what replaces them.
_REPLACED = {"multi:softmax": "multi:softprob", "binary:logitraw": "binary:logistic"}
_METRICS = {
    "reg:absoluteerror": "mae",
    "reg:pseudohubererror": "mae",
    "reg:squaredlogerror": "rmsle",
    "count:poisson": "poisson_deviance",
    "reg:gamma": "gamma_deviance",
    "binary:hinge": "accuracy",
}
_TWEEDIE_POWER = 1.5  # XGBoost's default


def check_objective(task: Task, params: Mapping[str, Any]) -> None:
    """Refuse an objective whose predictions are not those of the task.

    Raises:
        InputError: The message names an objective that fits.
    """
    objective = str(params.get("objective", DEFAULTS[task]["objective"]))
    if other := _REPLACED.get(objective):
        raise InputError(f"--params (TRAINING_PARAMS): {objective} does not predict probabilities; use {other}.")
    family = objective.partition(":")[0]
    if SURVIVAL.get(objective, _FAMILIES.get(family, task)) != task:
        raise InputError(
            f"--params (TRAINING_PARAMS): {objective} is not an objective of a {task} model, whose default is "
            f"{DEFAULTS[task]['objective']}; set --task, or another objective."
        )
    if isinstance(params.get("quantile_alpha"), list):
        raise InputError(
            "--params (TRAINING_PARAMS): quantile_alpha must be one number, because a regression predicts one number; "
            "train a model for each quantile."
        )


def metric_name(task: Task, params: Mapping[str, Any], wanted: str) -> str:
    """Return the metric by which a model is judged, or "" for the defaults of its task.

    Args:
        task: Task of the model.
        params: Parameters of XGBoost that the user sets.
        wanted: Metric that the user names, or "" for that of the objective.

    Raises:
        InputError: The metric does not apply to the task, or `params` name another one.
    """
    if wanted:
        if task not in metric_of(wanted).tasks:
            raise InputError(
                f"--metric (TRAINING_METRIC): {wanted} is not a metric of a {task} model. Use one of {names_for(task)}."
            )
        if "eval_metric" in params:
            raise InputError("--metric (TRAINING_METRIC): remove eval_metric from --params, or do not set --metric.")
        return wanted
    if task in SURVIVAL.values():
        return "" if "eval_metric" in params else DEFAULT_METRIC[task]
    objective = params.get("objective")
    if objective == "reg:quantileerror":
        return _with_number("pinball", params.get("quantile_alpha"))
    if objective == "reg:tweedie":
        return _with_number("tweedie_deviance", params.get("tweedie_variance_power", _TWEEDIE_POWER))
    return _METRICS.get(str(objective), "")


def eval_metric(task: Task, params: Mapping[str, Any], metric: str) -> str:
    """Return XGBoost's metric that orders models as this one does, or "" if there is none."""
    if metric.startswith("pinball_"):
        return "quantile" if metric == _with_number("pinball", params.get("quantile_alpha")) else ""
    return metric_of(metric).tasks[task]


def _with_number(family: str, value: Any) -> str:
    """Return the metric of a parameter's value, or "" if XGBoost refuses that value."""
    try:
        name = f"{family}_{float(value)!r}"
        metric_of(name)
    except (TypeError, ValueError):
        return ""
    return name
