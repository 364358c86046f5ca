"""The matrices of XGBoost, built from batches of rows so that no second copy of the data exists.

The tree method `hist` needs only the bin of each value, which is one byte. The bins, and with them the model, are the
same as those of a matrix that holds all values, because XGBoost sketches the values in the order of the rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xgboost as xgb

from training.data import survival
from training.data.dataset import Data, Matrix
from training.data.row_weights import of_groups
from training.data.split import Rows

_BATCH_BYTES = 8 << 20  # of values
_MAX_BIN = 256  # XGBoost's default


def matrix(data: Data, rows: Rows, nthread: int) -> xgb.DMatrix:
    """Return the matrix of these rows with their targets, weights and groups, in 8 bytes per value."""
    return xgb.DMatrix(**_contents(data, rows), nthread=nthread, enable_categorical=True)


def training_matrix(data: Data, rows: Rows, params: Mapping[str, Any], nthread: int) -> xgb.DMatrix:
    """Return the matrix to train on: bins for `hist`, and all values for another tree method or linear model."""
    if not _by_bins(params):
        return matrix(data, rows, nthread)
    max_bin = int(params.get("max_bin", _MAX_BIN))
    batches = _Batches(data, rows)
    return xgb.QuantileDMatrix(batches, nthread=nthread, max_bin=max_bin, enable_categorical=True)


def predict(booster: xgb.Booster, data: Data, rows: Rows, nthread: int) -> Matrix:
    """Return the predictions for these rows, shape (rows,) or (rows, outputs)."""
    parts = [booster.predict(matrix(data, each, nthread)) for each in _batches(data, rows)]
    return np.concatenate(parts)


def _by_bins(params: Mapping[str, Any]) -> bool:
    # Updaters may need the values, and only XGBoost knows which.
    return (
        params.get("tree_method", "auto") in ("auto", "hist")
        and params.get("booster", "gbtree") in ("gbtree", "dart")
        and "updater" not in params
        and "process_type" not in params
    )


def _batches(data: Data, rows: Rows) -> Sequence[Rows]:
    """Return the rows in batches, at least one, that do not divide a query of a ranking."""
    size = max(1, _BATCH_BYTES // (4 * max(1, data.frame.shape[1])))
    starts = np.arange(size, len(rows), size)
    if data.task == "ranking" and data.groups is not None:
        queries = data.groups[rows]
        starts = np.unique(np.searchsorted(queries, queries[starts]))
    return np.split(rows, starts[starts > 0])


def _contents(data: Data, rows: Rows) -> dict[str, Any]:
    """Return the arguments of XGBoost for these rows."""
    queries = data.groups[rows] if data.task == "ranking" and data.groups is not None else None
    weights = None if data.weights is None else data.weights[rows]
    return {
        "data": data.frame.iloc[rows],
        **_labels(data, rows),
        "weight": weights if weights is None or queries is None else of_groups(weights, queries),
        "qid": queries,
    }


def _labels(data: Data, rows: Rows) -> dict[str, Any]:
    """Return the arguments of XGBoost for the targets of these rows."""
    target = data.target[rows]
    if data.upper is None:
        return {"label": target}
    upper = data.upper[rows]
    if data.task == "survival_risk":
        return {"label": survival.label(target, upper)}
    return {"label_lower_bound": target, "label_upper_bound": upper}


class _Batches(xgb.DataIter):
    """Batches of rows, which XGBoost reads several times."""

    def __init__(self, data: Data, rows: Rows) -> None:
        super().__init__()
        self._data, self._rows = data, _batches(data, rows)
        self._left: Iterator[Rows] = iter(())

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Pass the next batch to XGBoost, and return whether there was one."""
        if (rows := next(self._left, None)) is None:
            return False
        input_data(**_contents(self._data, rows))
        return True

    def reset(self) -> None:
        """Start again with the first batch."""
        self._left = iter(self._rows)
