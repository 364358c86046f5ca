"""True values of held-out rows, against which predictions are measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# A metric as a function of how often each unit occurs, shape (units,). NaN if it is not defined.
Weighted = Callable[[Numbers], float]


@dataclass(frozen=True)
class Truth:
    """True values of rows.

    Args:
        target: Values, shape (rows,). A class is its number.
        groups: Query of each row, shape (rows,), for a ranking.
        weights: Weight of each row, shape (rows,). None if all are equal.
        upper: Upper bound of the time of each row, of which the target is the lower one, shape (rows,). None if the
            target is not a time until an event.
        by_risk: Whether predictions of these times are risks, of which the highest has the earliest event.
    """

    target: Numbers
    groups: NDArray[Any] | None = None
    weights: Numbers | None = None
    upper: Numbers | None = None
    by_risk: bool = False

    @classmethod
    def of(
        cls,
        target: NDArray[Any],
        groups: NDArray[Any] | None,
        weights: NDArray[Any] | None,
        upper: NDArray[Any] | None = None,
        by_risk: bool = False,
    ) -> Self:
        """Return the truth of rows with these targets, shape (rows,), in 64 bits."""
        wide_weights = None if weights is None else weights.astype(np.float64)
        wide_upper = None if upper is None else upper.astype(np.float64)
        return cls(target.astype(np.float64), groups, wide_weights, wide_upper, by_risk)

    def rows(self, chosen: NDArray[Any]) -> Self:
        """Return these rows, by number or by a mask."""
        groups = None if self.groups is None else self.groups[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        upper = None if self.upper is None else self.upper[chosen]
        return replace(self, target=self.target[chosen], groups=groups, weights=weights, upper=upper)

    def weighted(self, counts: Numbers) -> Numbers:
        """Return the weights of rows that occur this often, shape (rows,)."""
        return counts if self.weights is None else counts * self.weights
