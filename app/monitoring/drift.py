"""Drift counts: live values by the bins of the model's reference profile.

Prometheus adds the counters up over pods and restarts, and PromQL computes PSI and the shares of missing and unseen
values from them (files/rules/drift.yaml in the chart). Counting every request on its own would take up to a quarter of
its CPU time, so rows wait until a block is full or Prometheus scrapes.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.model.booster import Matrix
from app.model.columns import Column
from app.model.contract import Profile
from app.model.output import Output
from app.monitoring.bins import BLOCK_ROWS, UNSEEN, Bins

_MODEL = ("model_name", "model_version")


class Drift:
    """The drift counts of one model. Thread-safe.

    Args:
        profile: Reference profile.
        columns: Features of the model, as columns.
        output: Form of the model's predictions.
        labels: Name and version of the model.
        most_features: Maximum number of features to count; the most important ones are selected.

    Raises:
        LoadError: The profile does not belong to the model.
    """

    def __init__(
        self,
        profile: Profile,
        columns: Sequence[Column],
        output: Output,
        labels: tuple[str, str],
        most_features: int,
    ) -> None:
        self.labels = labels
        self.bins = Bins(profile, columns, output, most_features)
        self._counts = np.zeros(self.bins.size, dtype=np.intp)
        self._unseen = {
            each.variable.name: each.first + each.bins.index(UNSEEN)
            for each in self.bins.variables
            if UNSEEN in each.bins
        }
        self._waiting = 0  # rows
        # Bytes, copied while the arrays are in the CPU cache, so that the arrays can be freed with the request.
        self._rows, self._output = bytearray(), bytearray()
        self._lock = threading.Lock()

    def count(self, rows: Matrix, output: Matrix) -> None:
        """Count rows, shape (rows, columns), and the booster's answers to them, shape (rows, outputs)."""
        with self._lock:
            self._waiting += len(rows)
            self._rows += rows.tobytes()
            self._output += output.tobytes()
            if self._waiting < BLOCK_ROWS:
                return
        self._flush()

    def count_unseen(self, names: Iterable[str | None]) -> None:
        """Count one unseen category for each column name; names that are not counted categories are ignored."""
        with self._lock:
            for name in names:
                if name in self._unseen:
                    self._counts[self._unseen[name]] += 1

    def counts(self) -> list[int]:
        """Return the counts up to now, indexed as in `bins`."""
        self._flush()
        with self._lock:
            return self._counts.tolist()

    def _flush(self) -> None:
        """Count the waiting rows, outside the lock, because the event loop takes the lock for every request."""
        with self._lock:
            count, self._waiting = self._waiting, 0
            taken = self._rows, self._output
            self._rows, self._output = bytearray(), bytearray()
        if not count:
            return
        rows, output = (np.frombuffer(each, dtype=np.float32).reshape(count, -1) for each in taken)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            found = self.bins.count(rows[block], output[block])
            with self._lock:
                self._counts += found


class Distributions(Collector):
    """Collector of the counts and the reference of every model that this process has loaded."""

    def __init__(self) -> None:
        self._drifts: list[Drift] = []

    def add(self, drift: Drift) -> None:
        """Export the series of a model, including those at zero, because rate() does not see a first increase."""
        self._drifts = [*(each for each in self._drifts if each.labels != drift.labels), drift]

    def forget(self, name: str, version: str) -> None:
        """Remove the series of a version."""
        self._drifts = [each for each in self._drifts if each.labels != (name, version)]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        by_variable = [*_MODEL, "role", "variable"]
        values = CounterMetricFamily(
            "model_distribution_values", "Live values by bin of the reference profile.", labels=[*by_variable, "bin"]
        )
        shares = GaugeMetricFamily(
            "model_reference_distribution_ratio",
            "Share of the reference rows in each bin; upper is the upper bound of a numeric bin.",
            labels=[*by_variable, "bin", "upper"],
        )
        samples = GaugeMetricFamily(
            "model_reference_distribution_samples", "Rows in the reference profile.", labels=by_variable
        )
        importance = GaugeMetricFamily(
            "model_feature_importance_ratio",
            "Share of a feature in the gain of all splits.",
            labels=[*_MODEL, "variable"],
        )
        outside = CounterMetricFamily(
            "model_feature_out_of_range",
            "Values outside the range of the training data, where trees predict as at its edge.",
            labels=[*_MODEL, "variable", "side"],
        )
        positive = GaugeMetricFamily(
            "model_reference_positive_ratio",
            "Share of the second class among the reference rows in each score bin.",
            labels=[*_MODEL, "variable", "bin"],
        )
        for drift in self._drifts:
            model, counts = drift.labels, drift.counts()
            for each in drift.bins.variables:
                variable = each.variable
                where = [*model, each.role, variable.name]
                for number, (name, share, upper) in enumerate(each.reference()):
                    values.add_metric([*where, name], counts[each.first + number])
                    shares.add_metric([*where, name, upper], share)
                samples.add_metric(where, variable.samples)
                for name, share in zip(each.bins, variable.positive, strict=False):
                    positive.add_metric([*model, variable.name, name], share)
                if each.role == "feature":
                    importance.add_metric([*model, variable.name], variable.importance)
                    if not each.codes:
                        outside.add_metric([*model, variable.name, "below"], counts[each.below])
                        outside.add_metric([*model, variable.name, "above"], counts[each.above])
        yield from (values, shares, samples, importance, outside, positive)


DISTRIBUTIONS = Distributions()
REGISTRY.register(DISTRIBUTIONS)
