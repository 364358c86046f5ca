"""Buffered observations of histograms and increments of counters.

prometheus_client takes two locks and walks the buckets for every observation. A prediction makes six of them, which
would cost a tenth of its CPU time. Here observations wait in a list until the list is full or Prometheus scrapes, and
increments wait for the scrape.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

MOST_WAITING = 1024  # per child: 32 KiB


class Observations:
    """The observations that one child of a histogram has not counted yet. Thread-safe."""

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds = np.array(child._upper_bounds)
        self._waiting: list[float] = []
        self._exemplars: dict[int, Exemplar] = {}
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Add a value, which is counted by the next scrape at the latest."""
        waiting = self._waiting
        waiting.append(value)  # needs no lock: `flush` only removes values from the front
        if len(waiting) >= MOST_WAITING:
            self.flush()

    def extend(self, values: list[float]) -> None:
        """Add several values, otherwise as `observe`."""
        waiting = self._waiting
        waiting.extend(values)
        if len(waiting) >= MOST_WAITING:
            self.flush()

    def exemplify(self, value: float, trace: str) -> None:
        """Name the trace of an observed value. The next scrape links the last one of each bucket (OpenMetrics only)."""
        bucket = bisect_left(self._child._upper_bounds, value)
        self._exemplars[bucket] = Exemplar({"trace_id": trace}, value, time.time())

    @property
    def count(self) -> int:
        """Number of values up to now."""
        self.flush()
        return int(sum(bucket.get() for bucket in self._child._buckets))

    def flush(self) -> None:
        """Count the waiting values."""
        with self._lock:
            values = self._waiting[:]
            del self._waiting[: len(values)]
            buckets = np.searchsorted(self._bounds, values)  # a bucket includes its upper bound
            for place, count in enumerate(np.bincount(buckets).tolist()):
                if count:
                    self._child._buckets[place].inc(count)
            self._child._sum.inc(sum(values))
            while self._exemplars:
                place, exemplar = self._exemplars.popitem()
                self._child._buckets[place].set_exemplar(exemplar)


class Tally:
    """The increments that one child of a counter has not counted yet. One thread at a time adds; any thread flushes."""

    def __init__(self, child: Counter) -> None:
        self._child = child
        self._total = self._counted = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Add an increment, which is counted by the next scrape."""
        self._total += count

    def flush(self) -> None:
        """Count the waiting increments."""
        with self._lock:
            total = self._total
            self._child.inc(total - self._counted)
            self._counted = total


class _Flusher(Collector):
    """A collector without metrics. It is registered before the others, so the registry collects it first."""

    def __init__(self) -> None:
        self._known: dict[Histogram, Observations] = {}
        self._tallies: dict[Counter, Tally] = {}

    def observations(self, child: Histogram) -> Observations:
        """Return the buffer of a child, always the same one."""
        return self._known.setdefault(child, Observations(child))

    def tally(self, child: Counter) -> Tally:
        """Return the tally of a child, always the same one."""
        return self._tallies.setdefault(child, Tally(child))

    def discard(self, child: Histogram) -> None:
        """Remove the buffer of a child whose series is removed."""
        self._known.pop(child, None)

    def collect(self) -> Iterable[Metric]:
        """Count all that waits and return no metrics."""
        for observed in list(self._known.values()):
            observed.flush()
        for counted in list(self._tallies.values()):
            counted.flush()
        return ()


_FLUSHER = _Flusher()
REGISTRY.register(_FLUSHER)
observations, tally, discard = _FLUSHER.observations, _FLUSHER.tally, _FLUSHER.discard
