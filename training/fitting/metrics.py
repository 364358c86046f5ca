"""Metrics of a model's predictions for rows whose truth is known, by task."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from app.model.contract import Task

Numbers = NDArray[np.float64]
# A metric as a function of how often each unit occurs, shape (units,). NaN if it is not defined.
Weighted = Callable[[Numbers], float]

_SMALLEST = float(np.finfo(np.float32).eps)  # smallest probability, because float32 rounds to 0 or 1


@dataclass(frozen=True)
class Truth:
    """True values of the held-out rows.

    Args:
        target: Values, shape (rows,). A class is its number.
        groups: Query of each row, shape (rows,), for a ranking.
        weights: Weight of each row, shape (rows,). None if all are equal.
    """

    target: Numbers
    groups: NDArray[Any] | None = None
    weights: Numbers | None = None

    @classmethod
    def of(cls, target: NDArray[Any], groups: NDArray[Any] | None, weights: NDArray[Any] | None) -> Self:
        """Return the truth of rows with these targets, shape (rows,), in 64 bits."""
        return cls(target.astype(np.float64), groups, None if weights is None else weights.astype(np.float64))

    def rows(self, chosen: NDArray[Any]) -> Self:
        """Return these rows, by number or by a mask."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(
            self,
            target=self.target[chosen],
            groups=groups,
            weights=None if self.weights is None else self.weights[chosen],
        )

    def weighted(self, counts: Numbers) -> Numbers:
        """Return the weights of rows that occur this often, shape (rows,)."""
        return counts if self.weights is None else counts * self.weights


@dataclass(frozen=True)
class Metric:
    """A measure of predictions.

    Args:
        sign: 1 if more is better, and -1 if less is better.
        tasks: Tasks that the metric applies to.
        prepare: Takes the truth and the predictions, shape (rows,) or (rows, classes). Returns the number of units that
            a bootstrap samples (rows, or groups of a ranking), and the metric as a function of how often each occurs.
    """

    sign: int
    tasks: tuple[Task, ...]
    prepare: Callable[[Truth, Numbers], tuple[int, Weighted]]

    def value(self, truth: Truth, predictions: Numbers) -> float:
        """Return the metric over all rows."""
        units, weighted = self.prepare(truth, predictions)
        return weighted(np.ones(units))


def _mean_of(loss: Callable[[Truth, Numbers], Numbers], root: bool = False) -> Callable[..., tuple[int, Weighted]]:
    """Return the `prepare` function of a metric that is the mean of a loss per row."""

    def prepare(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
        losses = loss(truth, predictions)
        return len(losses), lambda counts: float(
            np.average(losses, weights=truth.weighted(counts)) ** (0.5 if root else 1)
        )

    return prepare


def _auc(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """Prepare the area under the ROC curve: the share of correctly ordered pairs, where a tie counts half."""
    order = np.argsort(predictions, kind="stable")
    positive = truth.target[order] == 1
    starts = np.flatnonzero(np.diff(predictions[order], prepend=-np.inf))  # first positions of equal predictions

    def weighted(counts: Numbers) -> float:
        ordered = truth.weighted(counts)[order]
        ones = np.add.reduceat(ordered * positive, starts)
        zeros = np.add.reduceat(ordered * ~positive, starts)
        pairs = ones.sum() * zeros.sum()
        below = np.cumsum(zeros) - zeros
        return float((ones * (below + zeros / 2)).sum() / pairs) if pairs else np.nan

    return len(order), weighted


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


def _logloss(truth: Truth, predictions: Numbers) -> Numbers:
    if predictions.ndim == 1:
        predictions = np.stack([1 - predictions, predictions], axis=1)
    of_the_truth = predictions[np.arange(len(predictions)), truth.target.astype(int)]
    return np.asarray(-np.log(np.clip(of_the_truth, _SMALLEST, 1)))


def _accuracy(truth: Truth, predictions: Numbers) -> Numbers:
    chosen = predictions >= 0.5 if predictions.ndim == 1 else predictions.argmax(axis=1)
    return np.asarray(chosen == truth.target, dtype=np.float64)


METRICS = {
    "auc": Metric(1, ("binary",), _auc),
    "logloss": Metric(-1, ("binary", "multiclass"), _mean_of(_logloss)),
    "accuracy": Metric(1, ("binary", "multiclass"), _mean_of(_accuracy)),
    "brier": Metric(-1, ("binary",), _mean_of(lambda truth, p: (p - truth.target) ** 2)),
    "rmse": Metric(-1, ("regression",), _mean_of(lambda truth, p: (p - truth.target) ** 2, root=True)),
    "mae": Metric(-1, ("regression",), _mean_of(lambda truth, p: np.abs(p - truth.target))),
    "ndcg": Metric(1, ("ranking",), _ndcg),
}
# Default metric of a comparison, by task.
DEFAULT_METRIC: dict[Task, str] = {"binary": "auc", "multiclass": "logloss", "regression": "rmse", "ranking": "ndcg"}
