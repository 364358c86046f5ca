"""Metrics of the held-out rows by group, which show a model that is good on average and bad for some."""

import logging
import re

import numpy as np

from training.data.dataset import Data, Matrix
from training.data.split import Rows
from training.fitting.finite import finite
from training.metrics.catalog import DEFAULT_METRIC, metric_of

_NOT_IN_A_NAME = re.compile(r"[^\w\-. :]", re.ASCII)  # MLflow refuses these in the name of a metric

log = logging.getLogger(__name__)


def measure_groups(data: Data, rows: Rows, output: Matrix, judged_by: str = "") -> dict[str, float]:
    """Return the finite values of the metric by `holdout_<metric>/<column>/<group>`.

    Args:
        data: Data with the true values and the groups.
        rows: The held-out rows.
        output: Predictions of the booster for these rows, shape (rows,) or (rows, classes).
        judged_by: Metric by which the model is judged. Empty for the default of its task.
    """
    if data.slices is None:
        return {}
    name = judged_by or DEFAULT_METRIC[data.task]
    truth = data.truth.rows(rows)
    found: dict[str, float] = {}
    for column, groups in data.slices.iloc[rows].items():
        for group in sorted(groups.unique()):
            inside = (groups == group).to_numpy()
            value = metric_of(name).value(truth.rows(inside), output[inside].astype(np.float64))
            log.info("%s of %s=%s: %.6g (%d rows)", name, column, group, value, inside.sum())
            found[_unused(f"holdout_{name}/{_safe(str(column))}/{_safe(group)}", found)] = value
    return finite(found)


def _safe(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text)[:80] or "_"


def _unused(name: str, used: dict[str, float]) -> str:
    """Return the name, or with a number if another group has the same name without its special characters."""
    return next(each for each in (name, *(f"{name}_{i}" for i in range(2, len(used) + 3))) if each not in used)
