"""Calibration of the probability of a binary model, by rows that its fit has not seen."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from app.model.calibration import log_odds
from app.model.contract import Isotonic, Platt
from training.data.dataset import Data, Matrix
from training.data.matrices import predict
from training.data.split import Split
from training.errors import InputError
from training.fitting import fit

Method = Literal["", "platt", "isotonic"]
OPTION = "--calibration (TRAINING_CALIBRATION)"

_CLIP = float(np.finfo(np.float32).eps)  # probabilities of 0 and 1 have no log odds

log = logging.getLogger(__name__)


def check_calibration(method: Method, task: str, params: Mapping[str, Any], workers: int) -> None:
    """Refuse a calibration of predictions that are not the probability of a second class.

    Raises:
        InputError: The message names the reason.
    """
    if not method:
        return
    if workers > 1:
        raise InputError(f"{OPTION}: no worker has all rows; train with one worker.")
    objective = params.get("objective", "binary:logistic")
    if task != "binary" or objective != "binary:logistic":
        raise InputError(f"{OPTION}: only a binary model with the objective binary:logistic has a probability.")


def calibrate(
    data: Data, parts: Split, params: Mapping[str, Any], rounds: int, nthread: int, method: Method
) -> Platt | Isotonic | None:
    """Return the calibration, or None without a method.

    The validation rows of each fold are predicted by a model of the other rows, with the parameters and rounds of the
    final model, so that data, parameters and rounds alone determine the calibration.

    Raises:
        InputError: The model orders the validation rows no better than by chance.
    """
    if not method:
        return None
    scores, rows = [], []
    for train, validation in parts.folds:
        booster = fit.fit(data, train, params, rounds, nthread).booster
        scores.append(predict(booster, data, validation, nthread))
        rows.append(validation)
    chosen = np.concatenate(rows)
    weights = None if data.weights is None else data.weights[chosen]
    found = _fitted(np.concatenate(scores), data.target[chosen], weights, method)
    log.info("calibration by %s on %d validation rows", method, len(chosen))
    return found


def _fitted(scores: Matrix, target: Matrix, weights: Matrix | None, method: Method) -> Platt | Isotonic:
    if method == "isotonic":
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        curve.fit(scores.astype(np.float64), target.astype(np.float64), weights)
        return Isotonic(scores=tuple(curve.X_thresholds_.tolist()), values=tuple(curve.y_thresholds_.tolist()))
    line = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    line.fit(log_odds(np.clip(scores, _CLIP, 1 - _CLIP))[:, None], target, weights)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope <= 0:
        raise InputError(
            f"{OPTION}: the model orders the validation rows no better than by chance, so its probability cannot be "
            "calibrated; leave the option out."
        )
    return Platt(slope=slope, intercept=intercept)
