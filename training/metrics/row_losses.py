"""Losses of single rows, whose mean is a metric. They take the truth and the predictions, and return shape (rows,)."""

import numpy as np

from training.metrics.truth import Numbers, Truth

_SMALLEST = float(np.finfo(np.float32).eps)  # smallest probability, because float32 rounds to 0 or 1


def log_loss(truth: Truth, predictions: Numbers) -> Numbers:
    """Negative logarithm of the probability of the true class."""
    if predictions.ndim == 1:
        predictions = np.stack([1 - predictions, predictions], axis=1)
    of_the_truth = predictions[np.arange(len(predictions)), truth.target.astype(int)]
    return np.asarray(-np.log(np.clip(of_the_truth, _SMALLEST, 1)))


def labels(predictions: Numbers) -> Numbers:
    """Return the number of the most probable class of each row."""
    chosen = predictions >= 0.5 if predictions.ndim == 1 else predictions.argmax(axis=1)
    return chosen.astype(np.float64)


def correct(truth: Truth, predictions: Numbers) -> Numbers:
    """Return 1 for the rows whose most probable class is the true one, and 0 for the others."""
    return np.asarray(labels(predictions) == truth.target, dtype=np.float64)


def squared(truth: Truth, predictions: Numbers) -> Numbers:
    """Squared error."""
    return np.asarray((predictions - truth.target) ** 2)


def absolute(truth: Truth, predictions: Numbers) -> Numbers:
    """Absolute error."""
    return np.abs(predictions - truth.target)


def relative(truth: Truth, predictions: Numbers) -> Numbers:
    """Absolute error divided by the true value, which is not finite if that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs((predictions - truth.target) / truth.target)


def squared_log(truth: Truth, predictions: Numbers) -> Numbers:
    """Squared difference of the logarithms of 1 + value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((np.log1p(predictions) - np.log1p(truth.target)) ** 2)


def pinball(truth: Truth, predictions: Numbers, quantile: float) -> Numbers:
    """Loss of a quantile."""
    below = truth.target - predictions
    return np.maximum(quantile * below, (quantile - 1) * below)


def poisson(truth: Truth, predictions: Numbers) -> Numbers:
    """Deviance of a Poisson distribution."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(truth.target > 0, truth.target * np.log(truth.target / predictions), 0)
    return np.asarray(2 * (logs - truth.target + predictions))


def gamma(truth: Truth, predictions: Numbers) -> Numbers:
    """Deviance of a gamma distribution."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = truth.target / predictions
        return np.asarray(2 * (shares - 1 - np.log(shares)))


def tweedie(truth: Truth, predictions: Numbers, power: float) -> Numbers:
    """Deviance of a Tweedie distribution with a power between 1 and 2."""
    one, two = 1 - power, 2 - power
    with np.errstate(divide="ignore", invalid="ignore"):
        of_truth = np.maximum(truth.target, 0) ** two / (one * two)
        return np.asarray(2 * (of_truth - truth.target * predictions**one / one + predictions**two / two))
