"""Metrics without a finite value, such as mape for a target of 0. They are recorded as missing."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

log = logging.getLogger("training")


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with a finite value. Warn about the others."""
    if missing := [name for name, value in metrics.items() if not np.isfinite(value)]:
        log.warning("%s: the value is not finite and is recorded as missing", ", ".join(missing))
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def finite_curves(curves: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """Return the metrics by round, with None for a value that is not finite. Warn about them."""
    for name, values in curves.items():
        if missing := len(values) - int(np.isfinite(values).sum()):
            log.warning(
                "%s: %d of %d rounds have a value that is not finite and is recorded as missing",
                name, missing, len(values),
            )  # fmt: skip
    return {name: [value if np.isfinite(value) else None for value in values] for name, values in curves.items()}


def last_if_none(best: int, curve: Sequence[float], rounds: int, metric: str) -> int:
    """Return the best round, counted from 0, or the last of all rounds if its metric is not finite."""
    if np.isfinite(curve[best]):
        return best
    log.warning(
        "early stopping has no effect: %s of the validation rows is not finite; set another eval_metric in --params",
        metric,
    )
    return rounds - 1
