"""The parameters that a search varies, and their bounds."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from training.train_options import Range

Space = dict[str, IntDistribution | FloatDistribution]

DEFAULT: Space = {
    "max_depth": IntDistribution(2, 10),
    "learning_rate": FloatDistribution(0.01, 0.3, log=True),
    "subsample": FloatDistribution(0.5, 1.0),
    "colsample_bytree": FloatDistribution(0.5, 1.0),
    "min_child_weight": FloatDistribution(0.1, 20.0, log=True),
    "reg_lambda": FloatDistribution(0.01, 30.0, log=True),
}


def space_of(ranges: Mapping[str, Range]) -> Space:
    """Return the space of these bounds, or the default if there are none."""
    return {name: _distribution(*bounds) for name, bounds in ranges.items()} or DEFAULT


def lowest(space: Space) -> dict[str, Any]:
    """Return the parameters at their lower bounds."""
    return {name: each.low for name, each in space.items()}


def _distribution(low: float, high: float, log: str = "") -> IntDistribution | FloatDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=bool(log))
    return FloatDistribution(float(low), float(high), log=bool(log))
