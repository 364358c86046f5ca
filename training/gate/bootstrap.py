"""The comparison of two models on the same rows, with a paired bootstrap of the gain.

A comparison of two numbers promotes noise: on 114 rows, the AUC of one model changes by 0.02 with the sample
(measured). A paired bootstrap samples the same rows for both models, so that the difficulty of the rows cancels.

Source: Efron, Tibshirani, An Introduction to the Bootstrap, chapters 13 and 14
"""

from dataclasses import dataclass

import numpy as np

from training.metrics.catalog import metric_of
from training.metrics.truth import Numbers, Truth

UNDEFINED_SHARE = 0.1  # share of resamples allowed without a value, such as an AUC of a single class


@dataclass(frozen=True)
class Comparison:
    """Both values, and the gain with its bounds. A positive gain means that the candidate is better.

    Each bound is one-sided: with the given confidence, the true gain is above `low`, and likewise below `high`.
    """

    metric: str
    champion: float
    candidate: float
    gain: float
    low: float
    high: float

    def evidence(self) -> dict[str, str]:
        """The measurements as tags of the version."""
        return {
            "metric": self.metric,
            "value": f"{self.candidate:.9g}",
            "compared_value": f"{self.champion:.9g}",
            "gain": f"{self.gain:.9g}",
            "gain_low": f"{self.low:.9g}",
        }


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
        ValueError: There are too few rows for this metric, or it is not finite. The message contains the remedy.
    """
    known = metric_of(metric)
    units, old = known.prepare(truth, champion)
    _, new = known.prepare(truth, candidate)
    everything = np.ones(units)
    before, after = old(everything), new(everything)
    if not np.isfinite([before, after]).all():
        raise ValueError(f"{metric} of the held-out rows is not finite; use another --metric")
    draw = np.random.default_rng(seed)
    gains = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(draw.integers(units, size=units), minlength=units).astype(np.float64)
        gains[i] = known.sign * (new(weights) - old(weights))
    if np.isnan(gains).mean() > UNDEFINED_SHARE:
        what = "groups" if metric == "ndcg" else "rows"
        raise ValueError(f"{units} held-out {what} are too few to compare {metric}; increase --holdout-share")
    low, high = np.nanquantile(gains, [1 - confidence, confidence])
    return Comparison(metric, before, after, known.sign * (after - before), float(low), float(high))
