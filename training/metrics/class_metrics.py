"""Metrics of classifiers that are not a mean over rows.

Each takes the truth and the predictions, and returns the number of rows and the metric as a function of how often each
row occurs.
"""

from collections.abc import Callable

import numpy as np

from training.metrics.row_losses import labels
from training.metrics.truth import Numbers, Truth, Weighted


def auc(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """Area under the ROC curve: the share of correctly ordered pairs, where a tie counts half."""
    by_score = _by_score(truth, predictions)

    def weighted(counts: Numbers) -> float:
        ones, zeros = by_score(counts)
        pairs = ones.sum() * zeros.sum()
        below = np.cumsum(zeros) - zeros
        return float((ones * (below + zeros / 2)).sum() / pairs) if pairs else np.nan

    return len(predictions), weighted


def aucpr(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """Area under the precision-recall curve, interpolated between two scores as in XGBoost.

    Source: Davis, Goadrich, The Relationship Between Precision-Recall and ROC Curves, 2006
    """
    by_score = _by_score(truth, predictions)

    def weighted(counts: Numbers) -> float:
        ones, zeros = (np.cumsum(each[::-1]) for each in by_score(counts))
        if not ones[-1] or not zeros[-1]:
            return np.nan
        ones, zeros = ones / ones[-1], zeros / ones[-1]
        before, false = np.concatenate([[0], ones[:-1]]), np.concatenate([[0], zeros[:-1]])
        rising = ones > before
        ones, zeros, before, false = (each[rising] for each in (ones, zeros, before, false))
        slope = (zeros - false) / (ones - before)
        a, b = 1 + slope, false - slope * before
        curved = np.abs(b) > np.finfo(np.float64).eps
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = np.where(curved, b / a * (np.log(a * ones + b) - np.log(a * before + b)), 0)
        return float(((ones - before - bend) / a).sum())

    return len(predictions), weighted


def f1(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """F1 of the second of two classes from a probability of 0.5 on, or the mean F1 of more classes."""
    chosen = labels(predictions)
    numbers = [1] if predictions.ndim == 1 else range(predictions.shape[1])
    hits = [(chosen == each) & (truth.target == each) for each in numbers]
    either = [(chosen == each).astype(np.float64) + (truth.target == each) for each in numbers]

    def weighted(counts: Numbers) -> float:
        weights = truth.weighted(counts)
        pairs = [(2 * weights[hit].sum(), (weights * each).sum()) for hit, each in zip(hits, either, strict=True)]
        return float(np.mean([hit / total if total else 0 for hit, total in pairs]))

    return len(predictions), weighted


def recall_at_precision(truth: Truth, predictions: Numbers, precision: float) -> tuple[int, Weighted]:
    """Greatest recall of a threshold with at least this precision, or 0 if there is none."""
    by_score = _by_score(truth, predictions)

    def weighted(counts: Numbers) -> float:
        ones, zeros = (np.cumsum(each[::-1]) for each in by_score(counts))
        if not ones[-1]:
            return np.nan
        precise = ones >= precision * (ones + zeros)
        return float((ones[precise] / ones[-1]).max(initial=0))

    return len(predictions), weighted


def _by_score(truth: Truth, predictions: Numbers) -> Callable[[Numbers], tuple[Numbers, Numbers]]:
    """Return a function that sums the weights of both classes by score, ascending: of class 1, then of class 0."""
    order = np.argsort(predictions, kind="stable")
    positive = truth.target[order] == 1
    starts = np.flatnonzero(np.diff(predictions[order], prepend=-np.inf))  # first positions of equal predictions

    def sums(counts: Numbers) -> tuple[Numbers, Numbers]:
        ordered = truth.weighted(counts)[order]
        return np.add.reduceat(ordered * positive, starts), np.add.reduceat(ordered * ~positive, starts)

    return sums
