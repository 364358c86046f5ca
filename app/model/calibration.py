"""Calibration of a binary model's probability, which the contract contains and every reader of the model applies."""

import numpy as np
from numpy.typing import NDArray

from app.model.booster import Matrix
from app.model.contract import Isotonic, Platt


def log_odds(probabilities: Matrix) -> NDArray[np.float64]:
    """Return the logarithm of the odds of probabilities; infinite for 0 and 1."""
    wide = probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(wide) - np.log1p(-wide))


def calibrated(probabilities: Matrix, calibration: Platt | Isotonic) -> Matrix:
    """Return the calibrated probabilities as float32, in the shape of the booster's own."""
    if isinstance(calibration, Isotonic):
        found = np.interp(probabilities, calibration.scores, calibration.values)
    else:
        with np.errstate(over="ignore"):
            found = 1 / (1 + np.exp(-(calibration.slope * log_odds(probabilities) + calibration.intercept)))
    return found.astype(np.float32)
