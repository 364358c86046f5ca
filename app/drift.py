"""Count how live values fall into the bins of the model's reference profile; Prometheus does the rest.

Counters add up over pods and outlive restarts, so PSI, missing and unseen shares are a matter of PromQL (the chart's
files/rules/drift.yaml). Counting each request for itself would take up to a quarter of its CPU time: rows wait until
they are a block, or until somebody wants to see the counts.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.bins import BLOCK_ROWS, UNSEEN, Bins
from app.booster import Matrix
from app.columns import Column
from app.contract import Profile
from app.output import Output

_MODEL = ("model_name", "model_version")


class Drift:
    """The counts of one model; safe in several threads.

    Args:
        profile: the reference.
        columns: of the model, in the order of its features.
        output: says what a prediction is.
        labels: name and version of the model.
        most_features: so many are counted, the most important first.

    Raises:
        LoadError: the profile is of another model.
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
        # As bytes, copied while they are in the processor's cache, so that the arrays can go with the request.
        self._rows, self._output = bytearray(), bytearray()
        self._lock = threading.Lock()

    def count(self, rows: Matrix, output: Matrix) -> None:
        """Count rows, shape (rows, columns), and what the booster answered to them, shape (rows, outputs)."""
        with self._lock:
            self._waiting += len(rows)
            self._rows += rows.tobytes()
            self._output += output.tobytes()
            if self._waiting < BLOCK_ROWS:
                return
        self._settle()

    def count_unseen(self, names: Iterable[str | None]) -> None:
        """Count a value that training never saw, for each time that a column is named; others are not counted."""
        with self._lock:
            for name in names:
                if name in self._unseen:
                    self._counts[self._unseen[name]] += 1

    def counts(self) -> list[int]:
        """Return what was counted until now, as `bins` has its places."""
        self._settle()
        with self._lock:
            return self._counts.tolist()

    def _settle(self) -> None:
        """Count what waits, outside the lock: the event loop takes it for each request."""
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
    """What Prometheus reads: the counts and the reference of every model that this process has loaded."""

    def __init__(self) -> None:
        self._drifts: list[Drift] = []

    def add(self, drift: Drift) -> None:
        """Show its series from now on, also those that are still zero: rate() does not see a first increase."""
        self._drifts = [*(each for each in self._drifts if each.labels != drift.labels), drift]

    def collect(self) -> Iterator[Metric]:
        """Return the families."""
        by_variable = [*_MODEL, "role", "variable"]
        values = CounterMetricFamily(
            "model_distribution_values", "Live values by bin of the reference.", labels=[*by_variable, "bin"]
        )
        shares = GaugeMetricFamily(
            "model_reference_distribution_ratio",
            "Share of the reference in each bin; upper: its bound, of a number.",
            labels=[*by_variable, "bin", "upper"],
        )
        samples = GaugeMetricFamily(
            "model_reference_distribution_samples", "Rows in the reference.", labels=by_variable
        )
        importance = GaugeMetricFamily(
            "model_feature_importance_ratio",
            "A feature's share of the gain of all splits.",
            labels=[*_MODEL, "variable"],
        )
        outside = CounterMetricFamily(
            "model_feature_out_of_range",
            "Values outside what training saw, where trees answer as at its end.",
            labels=[*_MODEL, "variable", "side"],
        )
        positive = GaugeMetricFamily(
            "model_reference_positive_ratio",
            "Share of the second class among the reference's rows of each bin of the score.",
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
