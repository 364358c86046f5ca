"""Metrics of a booster on held-out rows, and the importance of its features."""

import json
from typing import Any

import numpy as np
import xgboost as xgb

from training.data.dataset import Data, Matrix
from training.data.split import Rows
from training.fitting.finite import finite
from training.metrics.catalog import METRICS, metric_of


def measure(data: Data, rows: Rows, output: Matrix, judged_by: str = "") -> dict[str, float]:
    """Return the finite metrics of the task by name with the prefix `holdout_`.

    Args:
        data: Data with the true values.
        rows: The held-out rows.
        output: Predictions of the booster, shape (rows,) or (rows, classes).
        judged_by: Metric by which the model is judged, in addition to those of each model of the task.
    """
    truth = data.truth.rows(rows)
    answers = output.astype(np.float64)
    names = [name for name, each in METRICS.items() if data.task in each.tasks and each.always]
    own = [judged_by] if judged_by and judged_by not in names else []
    return finite({f"holdout_{name}": metric_of(name).value(truth, answers) for name in (*names, *own)})


def importance(booster: xgb.Booster) -> dict[str, float]:
    """Return the total gain of the splits by feature, or for a linear model the size of its weights.

    Features without a split are left out.
    """
    linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
    scores: dict[str, Any] = booster.get_score(importance_type="weight" if linear else "total_gain")
    return {name: float(np.abs(score).sum()) for name, score in scores.items()}
