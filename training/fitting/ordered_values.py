"""Order statistics of numbers that several workers have, each a part."""

import numpy as np
from numpy.typing import NDArray

from training.workers.group import ALONE, Group

Numbers = NDArray[np.float32]
_BITS = 32
_LOWEST, _HIGHEST = 0x007FFFFF, 0xFF800000  # keys of the infinities; those outside are NaN


class Ordered:
    """The numbers of all workers in ascending order, without bringing them together.

    Several workers find a number by bisection of its 32 bits. Each step counts the numbers up to a bound, so that the
    result is exact and no worker needs more memory than for its own part.

    Args:
        values: Numbers of this worker, shape (rows,), without NaN.
        group: The workers.
    """

    def __init__(self, values: Numbers, group: Group = ALONE) -> None:
        self._values, self._group = np.sort(values), group
        self.count = int(group.summed(np.array([len(values)], dtype=np.int64))[0])

    def at(self, ranks: NDArray[np.int64]) -> Numbers:
        """Return the numbers of these ranks, counted from 0, shape (ranks,)."""
        if self._group.size == 1:
            return self._values[ranks]
        low, high = (np.full(len(ranks), key, dtype=np.int64) for key in (_LOWEST, _HIGHEST))
        for _ in range(_BITS):
            middle = (low + high) // 2
            enough = self.up_to(_numbers(middle)) > ranks
            low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        return _numbers(low) + np.float32(0)  # the key of -0.0 is below that of 0.0

    def up_to(self, bounds: Numbers) -> NDArray[np.int64]:
        """Return how many numbers are at most each bound, shape (bounds,)."""
        return self._group.summed(np.searchsorted(self._values, bounds, side="right").astype(np.int64))


def _numbers(keys: NDArray[np.int64]) -> Numbers:
    """Return the 32-bit numbers whose order is that of the keys."""
    negative = keys < 2 ** (_BITS - 1)
    bits = np.where(negative, 2**_BITS - 1 - keys, keys - 2 ** (_BITS - 1)).astype(np.uint32)
    numbers: Numbers = bits.view(np.float32)
    return numbers
