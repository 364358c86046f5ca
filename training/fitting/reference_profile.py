"""The reference profile of a model, stored in its contract, with which live requests are compared.

The bins are quantiles of the reference data. Bins of equal width would not detect drift: one outlier makes them so wide
that all other values fall into one bin.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from app.model.contract import MOST_BINS, SCORE_BINS, Profile, Task, Variable
from training.fitting.ordered_values import Ordered
from training.workers.group import ALONE, Group

Numbers = NDArray[np.float32]
_GREATEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class Feature:
    """A column of the matrix that XGBoost sees. Values of a column with categories are the numbers of categories."""

    name: str
    categories: tuple[str | int, ...] = ()


def profile_of(
    features: Sequence[Feature],
    columns: Iterable[Numbers],
    importance: Mapping[str, float],
    predictions: Sequence[Variable],
    score_edges: Sequence[float] = (),
) -> Profile:
    """Return the profile of the rows that a model was trained on.

    Args:
        features: Features of the model, in order.
        columns: Training rows of each feature, shape (rows,). NaN is missing.
        importance: Gain by feature in any unit. Features without a split may be left out.
        predictions: Result of `predictions_of` for the held-out rows.
        score_edges: Result of `score_edges_of` for a binary model.
    """
    return Profile(
        created_at=datetime.now(UTC),
        features=variables_of(features, columns, importance),
        predictions=tuple(predictions),
        score_edges=tuple(score_edges),
    )


def predictions_of(
    task: Task, classes: Sequence[str], output: Numbers, truth: Numbers | None = None
) -> tuple[Variable, ...]:
    """Return the profile of predictions for held-out rows, because a model predicts its training rows too well.

    Args:
        task: Task of the model.
        classes: Classes of a classifier.
        output: Predictions of the booster, shape (rows,) or (rows, outputs).
        truth: True classes for a binary model, 0 or 1, which give the share of the second class by bin.
    """
    output = output.reshape(len(output), -1).astype(np.float32)
    if task == "multiclass":
        numbers = output.argmax(axis=1) if output.shape[1] > 1 else output[:, 0]
        return (variable_of("label", numbers.astype(np.float32), tuple(classes)),)
    if task == "binary":
        score = variable_of("score", output[:, 0])
        if truth is None:
            return (score,)
        place = np.searchsorted(np.array(score.edges, dtype=np.float32), output[:, 0])
        rows = np.bincount(place, minlength=len(score.shares))
        positive = np.bincount(place, weights=truth, minlength=len(score.shares)) / np.maximum(rows, 1)
        return (score.model_copy(update={"positive": tuple(positive.tolist())}),)
    names = ["value"] if output.shape[1] == 1 else [f"value_{i}" for i in range(output.shape[1])]
    return tuple(variable_of(name, output[:, i]) for i, name in enumerate(names))


def score_edges_of(scores: Numbers) -> tuple[float, ...]:
    """Return the bin edges of a binary model's scores, shape (rows,), with which labelled scores are counted."""
    return tuple(_quantiles(Ordered(scores.astype(np.float32)), SCORE_BINS).tolist())


def variables_of(
    features: Sequence[Feature], columns: Iterable[Numbers], importance: Mapping[str, float], group: Group = ALONE
) -> tuple[Variable, ...]:
    """Return the distributions of the features.

    Args:
        features: Features of the model, in order.
        columns: Training rows of each feature on this worker, shape (rows,). NaN is missing.
        importance: Gain by feature in any unit. Features without a split may be left out.
        group: The workers that have the rows.
    """
    total = sum(importance.values()) or 1.0
    return tuple(
        variable_of(each.name, values, each.categories, importance.get(each.name, 0.0) / total, group)
        for each, values in zip(features, columns, strict=True)
    )


def variable_of(
    name: str,
    values: Numbers,
    categories: tuple[str | int, ...] = (),
    importance: float = 0.0,
    group: Group = ALONE,
) -> Variable:
    """Return the distribution of a feature or a prediction.

    Args:
        name: Name of the variable.
        values: Numbers, or codes of categories, shape (rows,). NaN is missing.
        categories: Categories in the order of their codes; empty for numbers.
        importance: Share of a feature in the total gain.
        group: The workers that have the rows.
    """
    # Edges and ranges must be finite: infinite predictions of an exponential objective become the greatest number.
    known = np.clip(values[~np.isnan(values)], -_GREATEST, _GREATEST)
    rows, present = map(int, group.summed(np.array([len(values), len(known)], dtype=np.int64)))
    if categories:
        counts = group.summed(np.bincount(known.astype(np.intp), minlength=len(categories)))
        kept = sorted(
            np.argsort(-counts, kind="stable")[:MOST_BINS].tolist()
        )  # the most frequent categories, in their order
        bounds, low, high = known[:0], None, None
    else:
        ordered = Ordered(known, group)
        bounds = _edges(ordered)
        counts = np.diff(ordered.up_to(bounds), prepend=0, append=present)
        kept = list(range(len(counts)))
        low, high = map(float, ordered.at(np.array([0, present - 1]))) if present else (None, None)
    return Variable(
        name=name,
        edges=tuple(bounds.tolist()),
        categories=tuple(categories[i] for i in kept) if categories else (),
        shares=tuple((counts[kept] / rows).tolist()),
        other=float((counts.sum() - counts[kept].sum()) / rows),
        missing=float(1 - present / rows),
        samples=rows,
        minimum=low,
        maximum=high,
        importance=importance,
    )


def _edges(known: Ordered) -> Numbers:
    """Return the upper edges of all bins but the last, at most nine. Equal quantiles are one edge.

    A constant has three bins, below, equal and above, so that a change is detected.
    """
    if not known.count:
        return np.zeros(0, dtype=np.float32)
    low, high = known.at(np.array([0, known.count - 1]))
    if low == high:
        return np.array([np.nextafter(low, np.float32(-np.inf)), high], dtype=np.float32)
    return _quantiles(known, MOST_BINS)


def _quantiles(values: Ordered, bins: int) -> Numbers:
    """Return the edges of bins that each contain the same number of the values."""
    # Quantiles by rank: an interpolation overflows for differences of large numbers.
    ranks = -(np.arange(1, bins) * values.count // -bins) - 1
    edges = np.unique(values.at(ranks))
    # No value lies above the greatest one: as an edge, it would create an empty bin.
    bounds: Numbers = edges[edges < values.at(np.array([values.count - 1]))]
    return bounds
