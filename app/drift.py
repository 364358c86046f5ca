"""Count how live values fall into the bins of the model's reference profile; Prometheus does the rest.

Counters add up over pods and outlive restarts, so PSI, missing and unseen shares are a matter of PromQL (the chart's
files/rules/drift.yaml). A metric call per value would cost twenty times the prediction: a small batch is counted by
bisection, a large one by one numpy count, and both end in the same plain integers.
"""

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.booster import Category, Matrix
from app.columns import Column
from app.contract import CONTRACT_FILE, Profile, Variable
from app.errors import LoadError
from app.output import Output

MISSING, OTHER, UNSEEN = "__missing__", "__other__", "__unseen__"
SMALL_ROWS = 12  # up to here bisection beats numpy, whose calls have a fixed cost

_MODEL = ("model_name", "model_version")


@dataclass
class _Counted:
    """A variable and where it is counted.

    Args:
        role: feature or prediction.
        column: of its values, in the features followed by the predictions.
        first: its first bin among all counts.
        bins: their labels.
        codes: of a category: place of its bin by the number that the booster knows; empty: a number.
    """

    variable: Variable
    role: str
    column: int
    first: int
    bins: tuple[str, ...]
    codes: tuple[int, ...]
    edges: list[float] = field(init=False)
    missing: int = field(init=False)
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        variable = self.variable
        self.edges = list(variable.edges)
        self.missing = self.first + self.bins.index(MISSING)
        self.low = -math.inf if variable.minimum is None else variable.minimum
        self.high = math.inf if variable.maximum is None else variable.maximum


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
        self._output = output
        place = {column.name: i for i, column in enumerate(columns)}
        if strangers := [each.name for each in profile.features if each.name not in place]:
            raise _misfit(f"{strangers[0]}, which is no column of the model")
        if len(profile.predictions) not in (0, output.measures):
            raise _misfit(f"{len(profile.predictions)} predictions, but the model has {output.measures}")
        features = sorted(profile.features, key=lambda each: -each.importance)[:most_features]
        counted: list[_Counted] = []
        for each in features:
            _add(counted, each, "feature", place[each.name], columns[place[each.name]].categories)
        for i, each in enumerate(profile.predictions):
            _add(counted, each, "prediction", len(columns) + i, output.classes if each.categories else ())
        self.variables = tuple(counted)
        self.counts = [0] * sum(len(each.bins) for each in counted)
        self.below, self.above = [0] * len(counted), [0] * len(counted)
        self._lock = threading.Lock()
        self._unseen = {
            each.variable.name: each.first + each.bins.index(UNSEEN) for each in counted if UNSEEN in each.bins
        }
        numbers = [(i, each) for i, each in enumerate(counted) if not each.codes]
        self._numbers = [i for i, _ in numbers]
        self._columns = [each.column for _, each in numbers]
        # By row: the k-th edge of each number, infinite where it has none.
        deepest = max((len(each.edges) for _, each in numbers), default=0)
        padded = [each.edges + [math.inf] * (deepest - len(each.edges)) for _, each in numbers]
        self._edges = np.array(padded, dtype=np.float32).reshape(len(numbers), deepest).T
        self._first = np.array([each.first for _, each in numbers], dtype=np.intp)
        self._missing = np.array([each.missing for _, each in numbers], dtype=np.intp)
        self._low = np.array([each.low for _, each in numbers], dtype=np.float32)
        self._high = np.array([each.high for _, each in numbers], dtype=np.float32)

    def count(self, rows: Matrix, output: Matrix) -> None:
        """Count rows, shape (rows, columns), and what the booster answered to them, shape (rows, outputs)."""
        measured = self._output.measured(output)
        if len(rows) <= SMALL_ROWS:
            with self._lock:
                for row, prediction in zip(rows.tolist(), measured.tolist(), strict=True):
                    self._count_one(row + prediction)
            return
        values = np.hstack([rows, measured])
        numbers = values[:, self._columns]
        places = np.zeros(numbers.shape, dtype=np.intp)
        for edge in self._edges:
            places += numbers > edge
        places += self._first
        missing = np.isnan(numbers)
        if missing.any():
            np.copyto(places, self._missing, where=missing)
        found = np.bincount(places.ravel(), minlength=len(self.counts))
        for each in self.variables:
            if each.codes:
                found += self._count_codes(each, values[:, each.column])
        below, above = (numbers < self._low).sum(axis=0).tolist(), (numbers > self._high).sum(axis=0).tolist()
        with self._lock:
            self.counts = [a + b for a, b in zip(self.counts, found.tolist(), strict=True)]
            for i, less, more in zip(self._numbers, below, above, strict=True):
                self.below[i] += less
                self.above[i] += more

    def count_unseen(self, names: Iterable[str | None]) -> None:
        """Count a value that training never saw, for each time that a column is named; others are not counted."""
        with self._lock:
            for name in names:
                if name in self._unseen:
                    self.counts[self._unseen[name]] += 1

    def _count_one(self, values: list[float]) -> None:
        counts = self.counts
        for i, each in enumerate(self.variables):
            value = values[each.column]
            if value != value:
                counts[each.missing] += 1
            elif each.codes:
                counts[each.first + each.codes[int(value)]] += 1
            else:
                counts[each.first + bisect_left(each.edges, value)] += 1
                if value < each.low:
                    self.below[i] += 1
                elif value > each.high:
                    self.above[i] += 1

    def _count_codes(self, each: _Counted, values: Matrix) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        missing = np.isnan(values)
        places = each.first + np.array(each.codes, dtype=np.intp)[values[~missing].astype(np.intp)]
        found = np.bincount(places, minlength=len(self.counts))
        found[each.missing] += int(missing.sum())
        return found


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
            model, counts = drift.labels, drift.counts
            for i, each in enumerate(drift.variables):
                variable = each.variable
                where = [*model, each.role, variable.name]
                for number, (name, share, upper) in enumerate(_reference(each)):
                    values.add_metric([*where, name], counts[each.first + number])
                    shares.add_metric([*where, name, upper], share)
                samples.add_metric(where, variable.samples)
                for name, share in zip(each.bins, variable.positive, strict=False):
                    positive.add_metric([*model, variable.name, name], share)
                if each.role == "feature":
                    importance.add_metric([*model, variable.name], variable.importance)
                    if not each.codes:
                        outside.add_metric([*model, variable.name, "below"], drift.below[i])
                        outside.add_metric([*model, variable.name, "above"], drift.above[i])
        yield from (values, shares, samples, importance, outside, positive)


DISTRIBUTIONS = Distributions()
REGISTRY.register(DISTRIBUTIONS)


def _add(counted: list[_Counted], variable: Variable, role: str, column: int, categories: tuple[Category, ...]) -> None:
    first = counted[-1].first + len(counted[-1].bins) if counted else 0
    if bool(categories) != bool(variable.categories):
        raise _misfit(f"{variable.name} as a {'category' if variable.categories else 'number'}, which it is not")
    if not categories:
        bins = (*(f"{i:02d}" for i in range(len(variable.edges) + 1)), MISSING)
        counted.append(_Counted(variable, role, column, first, bins, ()))
        return
    named = [str(each) for each in variable.categories]
    codes = tuple(named.index(str(each)) if str(each) in named else len(named) for each in categories)
    counted.append(_Counted(variable, role, column, first, (*named, OTHER, MISSING, UNSEEN), codes))


def _reference(each: _Counted) -> Iterator[tuple[str, float, str]]:
    """Return label, reference share and upper bound of each bin."""
    variable = each.variable
    known = {MISSING: variable.missing, OTHER: variable.other, UNSEEN: 0.0}
    uppers = [*(f"{edge:.6g}" for edge in variable.edges), "+Inf"] if not each.codes else []
    for i, name in enumerate(each.bins):
        if i < len(variable.shares):
            yield name, variable.shares[i], uppers[i] if uppers else ""
        else:
            yield name, known[name], ""


def _misfit(what: str) -> LoadError:
    return LoadError(f"the profile in {CONTRACT_FILE} has {what}", "write it again from this model's training data")
