"""Let a histogram count many observations at once.

One at a time, the six of a prediction cost it a tenth of its CPU time: prometheus_client takes two locks and walks
along the buckets for each. Here they wait in a list until there are many, or until somebody wants to see the metrics.
"""

import threading
from collections.abc import Iterable

import numpy as np
from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

MOST_WAITING = 1024  # of one child: 32 KiB


class Observations:
    """What one child of a histogram has not counted yet; safe in several threads."""

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds = np.array(child._upper_bounds)
        self._waiting: list[float] = []
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count the value soon."""
        waiting = self._waiting
        waiting.append(value)  # without the lock: nobody else takes it from the end
        if len(waiting) >= MOST_WAITING:
            self.settle()

    def settle(self) -> None:
        """Have the child count what waits."""
        with self._lock:
            values = self._waiting[:]
            del self._waiting[: len(values)]
            buckets = np.searchsorted(self._bounds, values)  # a bucket includes its bound
            for place, count in enumerate(np.bincount(buckets).tolist()):
                if count:
                    self._child._buckets[place].inc(count)
            self._child._sum.inc(sum(values))


class _Settling(Collector):
    """Has no metrics; the registry asks it before the histograms, as it was there before them."""

    def __init__(self) -> None:
        self._known: dict[Histogram, Observations] = {}

    def observations(self, child: Histogram) -> Observations:
        """Return what the child's observations are given to: the same for all who ask."""
        return self._known.setdefault(child, Observations(child))

    def collect(self) -> Iterable[Metric]:
        """Return no metrics, but have them all counted."""
        for each in list(self._known.values()):
            each.settle()
        return ()


_SETTLING = _Settling()
REGISTRY.register(_SETTLING)
observations = _SETTLING.observations
