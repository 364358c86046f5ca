"""Compare two models on the same rows: metrics by task, and a paired bootstrap of the gain.

Two numbers alone promote noise: on 114 rows the AUC of one model moves by 0.02 with the rows drawn (measured). A paired
bootstrap draws the same rows for both models, so that what is hard for both cancels.

Source: Efron, Tibshirani, An Introduction to the Bootstrap, chapters 13 and 14
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.contract import Task

Numbers = NDArray[np.float64]
# From weights of the units, shape (units,), to the metric; NaN where it is not defined.
Weighted = Callable[[Numbers], float]

UNDEFINED_SHARE = 0.1  # of the resamples that may have no value, such as an AUC of rows of one class
_SMALLEST = float(np.finfo(np.float32).eps)  # of a probability, which float32 rounds to 0 or 1


@dataclass(frozen=True)
class Truth:
    """Held-out rows: `target`, shape (rows,), a class as its number; `groups`, the same, of a ranking: the query."""

    target: Numbers
    groups: NDArray[Any] | None = None


@dataclass(frozen=True)
class Metric:
    """How good predictions are; `sign` is 1 where more is better and -1 where less is.

    `prepare` takes the truth and predictions, shape (rows,) or (rows, classes), and returns the number of units that
    are drawn (rows, or groups of a ranking) and the metric of weights.
    """

    sign: int
    tasks: tuple[Task, ...]
    prepare: Callable[[Truth, Numbers], tuple[int, Weighted]]

    def value(self, truth: Truth, predictions: Numbers) -> float:
        """Return the metric over all rows."""
        units, weighted = self.prepare(truth, predictions)
        return weighted(np.ones(units))


@dataclass(frozen=True)
class Comparison:
    """Both values, and the gain with its bounds, which is above 0 where the candidate is better.

    The lower bound alone is below the true gain with the confidence asked for, the upper bound alone above it.
    """

    metric: str
    champion: float
    candidate: float
    gain: float
    low: float
    high: float


def compare(
    metric: str,
    truth: Truth,
    champion: Numbers,
    candidate: Numbers,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Comparison:
    """Return the gain of the candidate's predictions over the champion's, with its bounds.

    Raises:
        ValueError: the rows are too few for this metric.
    """
    known = METRICS[metric]
    units, old = known.prepare(truth, champion)
    _, new = known.prepare(truth, candidate)
    draw = np.random.default_rng(seed)
    gains = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(draw.integers(units, size=units), minlength=units).astype(np.float64)
        gains[i] = known.sign * (new(weights) - old(weights))
    if np.isnan(gains).mean() > UNDEFINED_SHARE:
        raise ValueError(f"{units} held-out {'groups' if metric == 'ndcg' else 'rows'} are too few to compare {metric}")
    low, high = np.nanquantile(gains, [1 - confidence, confidence])
    everything = np.ones(units)
    before, after = old(everything), new(everything)
    return Comparison(metric, before, after, known.sign * (after - before), float(low), float(high))


def _mean_of(loss: Callable[[Truth, Numbers], Numbers], root: bool = False) -> Callable[..., tuple[int, Weighted]]:
    """Return how to prepare a metric that is the mean of a number per row."""

    def prepare(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
        losses = loss(truth, predictions)
        return len(losses), lambda weights: float(np.average(losses, weights=weights) ** (0.5 if root else 1))

    return prepare


def _auc(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """The area under the ROC curve: the share of pairs of both classes in the right order, a tie counting half."""
    order = np.argsort(predictions, kind="stable")
    positive = truth.target[order] == 1
    starts = np.flatnonzero(np.diff(predictions[order], prepend=-np.inf))  # of equal predictions

    def weighted(weights: Numbers) -> float:
        ordered = weights[order]
        ones = np.add.reduceat(ordered * positive, starts)
        zeros = np.add.reduceat(ordered * ~positive, starts)
        pairs = ones.sum() * zeros.sum()
        below = np.cumsum(zeros) - zeros
        return float((ones * (below + zeros / 2)).sum() / pairs) if pairs else np.nan

    return len(order), weighted


def _ndcg(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """The mean over groups of the normalised discounted cumulative gain, of gains 2^grade - 1; 1 without any gain."""
    if truth.groups is None:
        raise ValueError("a ranking is compared by its groups, and there are none")
    order = np.argsort(truth.groups, kind="stable")
    starts = np.flatnonzero(truth.groups[order][1:] != truth.groups[order][:-1]) + 1
    values = []
    for rows in np.split(order, starts):
        gains = 2 ** truth.target[rows] - 1
        discounts = 1 / np.log2(np.arange(len(gains)) + 2)
        best = (np.sort(gains)[::-1] * discounts).sum()
        ranked = gains[np.argsort(-predictions[rows], kind="stable")]
        values.append((ranked * discounts).sum() / best if best else 1.0)
    losses = np.array(values)
    return len(losses), lambda weights: float(np.average(losses, weights=weights))


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
# Of each task, what a comparison uses when nothing else is said.
DEFAULT_METRIC: dict[Task, str] = {"binary": "auc", "multiclass": "logloss", "regression": "rmse", "ranking": "ndcg"}
