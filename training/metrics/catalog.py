"""Metrics of a model's predictions for rows whose truth is known, by task.

The same names select what early stopping, the search and the gate compare, and name the metrics in MLflow, in
`contract.json` and in the dashboards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from app.model.contract import Task
from training.metrics import class_metrics, row_losses
from training.metrics.concordance import concordance
from training.metrics.truth import Numbers, Truth, Weighted


@dataclass(frozen=True)
class Metric:
    """A measure of predictions.

    Args:
        sign: 1 if more is better, and -1 if less is better.
        tasks: Tasks that the metric applies to, with XGBoost's metric that orders models in the same way. Empty if
            XGBoost has none.
        prepare: Takes the truth and the predictions, shape (rows,) or (rows, classes). Returns the number of units that
            a bootstrap samples (rows, or groups of a ranking), and the metric as a function of how often each occurs.
        always: Whether each model of these tasks is measured with it, even if nobody asks for it.
    """

    sign: int
    tasks: Mapping[Task, str]
    prepare: Callable[[Truth, Numbers], tuple[int, Weighted]]
    always: bool = field(default=False, kw_only=True)

    def value(self, truth: Truth, predictions: Numbers) -> float:
        """Return the metric over all rows."""
        units, weighted = self.prepare(truth, predictions)
        return weighted(np.ones(units))


def _mean_of(loss: Callable[[Truth, Numbers], Numbers], root: bool = False) -> Callable[..., tuple[int, Weighted]]:
    """Return the `prepare` function of a metric that is the mean of a loss per row."""

    def prepare(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
        losses = loss(truth, predictions)

        def weighted(counts: Numbers) -> float:
            return float(np.average(losses, weights=truth.weighted(counts)) ** (0.5 if root else 1))

        return len(losses), weighted

    return prepare


def _ndcg(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """Prepare the mean NDCG of the groups, with gains of 2^grade - 1. A group without a gain counts as 1."""
    if truth.groups is None:
        raise ValueError("a ranking is measured by its groups, but the data have no groups")
    order = np.argsort(truth.groups, kind="stable")
    starts = np.flatnonzero(truth.groups[order][1:] != truth.groups[order][:-1]) + 1
    values, weights = [], []
    for rows in np.split(order, starts):
        gains = 2 ** truth.target[rows] - 1
        discounts = 1 / np.log2(np.arange(len(gains)) + 2)
        best = (np.sort(gains)[::-1] * discounts).sum()
        ranked = gains[np.argsort(-predictions[rows], kind="stable")]
        values.append((ranked * discounts).sum() / best if best else 1.0)
        weights.append(1.0 if truth.weights is None else truth.weights[rows[0]])
    return len(values), lambda counts: float(np.average(values, weights=counts * np.array(weights)))


METRICS = {
    "auc": Metric(1, {"binary": "auc"}, class_metrics.auc, always=True),
    "logloss": Metric(-1, {"binary": "logloss", "multiclass": "mlogloss"}, _mean_of(row_losses.log_loss), always=True),
    "accuracy": Metric(1, {"binary": "error", "multiclass": "merror"}, _mean_of(row_losses.correct), always=True),
    "brier": Metric(-1, {"binary": "rmse"}, _mean_of(row_losses.squared), always=True),
    "aucpr": Metric(1, {"binary": "aucpr"}, class_metrics.aucpr),
    "f1": Metric(1, {"binary": "", "multiclass": ""}, class_metrics.f1),
    "rmse": Metric(-1, {"regression": "rmse"}, _mean_of(row_losses.squared, root=True), always=True),
    "mae": Metric(-1, {"regression": "mae"}, _mean_of(row_losses.absolute), always=True),
    "mape": Metric(-1, {"regression": "mape"}, _mean_of(row_losses.relative)),
    "rmsle": Metric(-1, {"regression": "rmsle"}, _mean_of(row_losses.squared_log, root=True)),
    "poisson_deviance": Metric(-1, {"regression": "poisson-nloglik"}, _mean_of(row_losses.poisson)),
    "gamma_deviance": Metric(-1, {"regression": "gamma-deviance"}, _mean_of(row_losses.gamma)),
    "ndcg": Metric(1, {"ranking": "ndcg"}, _ndcg, always=True),
    "concordance": Metric(1, {"survival_risk": "", "survival_time": ""}, concordance, always=True),
}
# Metrics with a number at the end of their name: its bounds, and the metric for a number.
_FAMILIES: dict[str, tuple[float, float, Callable[[float], Metric]]] = {
    "recall_at_precision": (
        0, 1, lambda p: Metric(1, {"binary": ""}, partial(class_metrics.recall_at_precision, precision=p))
    ),
    "pinball": (0, 1, lambda q: Metric(-1, {"regression": ""}, _mean_of(partial(row_losses.pinball, quantile=q)))),
    "tweedie_deviance": (
        1, 2, lambda p: Metric(
            -1, {"regression": f"tweedie-nloglik@{p!r}"}, _mean_of(partial(row_losses.tweedie, power=p))
        )
    ),
}  # fmt: skip
METRIC_NAMES = (*METRICS, "recall_at_precision_0.9", "pinball_0.5", "tweedie_deviance_1.5")
# Default metric of a comparison, by task.
DEFAULT_METRIC: dict[Task, str] = {
    "binary": "auc",
    "multiclass": "logloss",
    "regression": "rmse",
    "ranking": "ndcg",
    "survival_risk": "concordance",
    "survival_time": "concordance",
}


def metric_of(name: str) -> Metric:
    """Return the metric with this name.

    Raises:
        ValueError: There is none. The message is a sentence without its full stop.
    """
    if name in METRICS:
        return METRICS[name]
    family, _, number = name.rpartition("_")
    if family not in _FAMILIES:
        raise ValueError(f"{name!r} is not a metric; use one of {', '.join(METRIC_NAMES)}")
    low, high, made = _FAMILIES[family]
    try:
        value = float(number)
    except ValueError:
        value = np.nan
    if not low < value < high:
        raise ValueError(f"{name!r} must end with a number between {low} and {high}, such as {_example(family)}")
    return made(value)


def names_for(task: Task) -> str:
    """Return the names of the metrics of a task for a sentence."""
    return ", ".join(name for name in METRIC_NAMES if task in metric_of(name).tasks)


def _example(family: str) -> str:
    return next(name for name in METRIC_NAMES if name.startswith(family))
