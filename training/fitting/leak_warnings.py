"""Warnings about data that make a model look better than it is, or that it cannot learn from."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from app.model.dates import feature_names
from training.data.column_names import listed
from training.data.dataset import Data, Matrix
from training.data.preprocessing import numbers
from training.data.split import Split
from training.metrics.catalog import METRICS
from training.metrics.truth import Truth

SUSPICIOUS_AUC = 0.99  # of a single feature
SUSPICIOUS_CORRELATION = 0.999  # of a feature and the target of a regression
SUSPICIOUS_COPIES = 0.05  # share of the held-out rows; rows of few values coincide by chance
_MOST_ROWS = 100_000  # looked at, because a leak shows in a part of the rows
_FEWEST_ROWS = 100  # with fewer rows, distinct numbers or a perfect order can be a coincidence
_CONSTANT = "has the same value in each training row: leave it out with --drop"
_IDENTIFIER = "has a different whole number in each training row; if it is an identifier, leave it out with --drop"

log = logging.getLogger("training")


def warn_of_leaks(data: Data, parts: Split) -> None:
    """Log what is suspicious in the data, and the option that changes it."""
    rest = parts.rest[:_MOST_ROWS]
    dated = {name for column in data.columns if column.parts for name in feature_names(column.name, column.parts)}
    for name in data.frame.columns:
        column = data.frame[name].iloc[rest]
        values = numbers(column)
        problem = _problem(data, values, data.target[rest], categorical=column.dtype == "category")
        if problem and not (name in dated and problem in (_CONSTANT, _IDENTIFIER)):  # as parts of dates often are
            log.warning("column %s %s", name, problem)
    for sentence in (*_strangers(data, parts), *_copies(data, parts)):
        log.warning("%s", sentence)


def _problem(data: Data, values: Matrix, target: Matrix, *, categorical: bool) -> str:
    """Return what is suspicious about a column, or ""."""
    known = ~np.isnan(values)
    distinct = len(np.unique(values[known]))
    if distinct <= 1 and known.all():
        return _CONSTANT
    if len(values) < _FEWEST_ROWS:
        return ""
    whole = bool((values[known] == np.trunc(values[known])).all())
    if distinct == len(values) and whole:
        return _IDENTIFIER
    remedy = "if it is not known when the model predicts, leave it out with --drop"
    if _is_target(data, values, target):
        return f"equals the target {data.target_name}: {remedy}"
    if data.task == "binary" and (auc := _auc(values, target, categorical=categorical)) > SUSPICIOUS_AUC:
        return f"alone predicts the target with an AUC of {auc:.4f}: {remedy}"
    if data.task == "regression" and not categorical and (r := _correlation(values, target)) > SUSPICIOUS_CORRELATION:
        return f"has a correlation of {r:.5f} with the target: {remedy}"
    return ""


def _is_target(data: Data, values: Matrix, target: Matrix) -> bool:
    """Return whether the column contains the target, or a different name for each class."""
    if not data.classes:
        return bool((values == target).all())
    pairs = pd.DataFrame({"value": values, "target": target}).drop_duplicates()
    return len(pairs) == len(data.classes) and pairs["value"].nunique(dropna=False) == len(pairs)


def _auc(values: Matrix, target: Matrix, *, categorical: bool) -> float:
    """Return the AUC of a single feature. A missing value is below all others, and categories have their best order."""
    order: Any = values
    if categorical:
        frame = pd.DataFrame({"value": values, "target": target}).fillna({"value": -1})
        half = np.arange(len(frame)) % 2 == 0  # a category of its own for each row would predict itself
        means = frame[half].groupby("value")["target"].mean()
        order = frame.loc[~half, "value"].map(means).fillna(target.mean()).to_numpy()
        target = target[~half]
    order = np.where(np.isnan(order), -np.inf, order).astype(np.float64)
    finite = order[np.isfinite(order)]
    order = np.where(np.isfinite(order), order, finite.min(initial=0) - 1)
    auc = METRICS["auc"].value(Truth(target.astype(np.float64)), order)
    return max(auc, 1 - auc)


def _correlation(values: Matrix, target: Matrix) -> float:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.corrcoef(values[known].astype(np.float64), target[known].astype(np.float64))[0, 1]
    return float(abs(found))


def _strangers(data: Data, parts: Split) -> Iterator[str]:
    """Yield the categories that appear in held-out rows only."""
    for column in data.columns:
        if not column.categories:
            continue
        codes = data.frame[column.name].cat.codes.to_numpy()
        new = np.setdiff1d(codes[parts.holdout], codes[parts.rest])
        if names := [str(column.categories[code]) for code in new[new >= 0]]:
            yield f"column {column.name} has categories that no training row contains: {listed(names)}"


def _copies(data: Data, parts: Split) -> Iterator[str]:
    """Yield how many held-out rows are copies of training rows."""
    hashes = pd.util.hash_pandas_object(data.frame, index=False).to_numpy()
    hashes = hashes ^ pd.util.hash_array(data.target.astype(np.float64))
    copies = int(np.isin(hashes[parts.holdout], hashes[parts.rest]).sum())
    if copies > SUSPICIOUS_COPIES * len(parts.holdout):
        share = copies / len(parts.holdout)
        yield (
            f"{copies} of {len(parts.holdout)} held-out rows ({share:.0%}) are copies of training rows, so the metrics "
            "are too good: remove the copies, or keep them together with --holdout-key '*'"
        )
