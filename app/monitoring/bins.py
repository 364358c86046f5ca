"""Bins of a model's reference profile, and the counting of live values in them.

Rows are counted in blocks, because a NumPy call takes about a microsecond for one row as well as for a hundred.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from app.errors import LoadError
from app.model.booster import Category, Matrix
from app.model.columns import Column
from app.model.contract import CONTRACT_FILE, Profile, Variable
from app.model.output import Output

MISSING, OTHER, UNSEEN = "__missing__", "__other__", "__unseen__"
BLOCK_ROWS = 512  # larger blocks are not faster per row; the hard limit is 65,535, because counts take two bytes

Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Binned:
    """A variable and the position of its counters.

    Args:
        variable: Reference distribution.
        role: "feature" or "prediction".
        column: Index of its column, where predictions follow the features.
        first: Index of its first bin among all counters.
        bins: Labels of its bins.
        codes: Bin of each category code, relative to `first`; empty for a numeric variable. The code after the last one
            stands for an unknown category.
    """

    variable: Variable
    role: str
    column: int
    first: int
    bins: tuple[str, ...]
    codes: tuple[int, ...]

    @property
    def missing(self) -> int:
        """Index of the counter of missing values."""
        return self.first + self.bins.index(MISSING)

    @property
    def below(self) -> int:
        """Index of the underflow counter of a numeric variable; the overflow counter follows it."""
        return self.first + len(self.bins)

    @property
    def above(self) -> int:
        """Index of the overflow counter of a numeric variable."""
        return self.below + 1

    def reference(self) -> Iterator[tuple[str, float, str]]:
        """Return label, reference share and upper bound of each bin."""
        variable = self.variable
        known = {MISSING: variable.missing, OTHER: variable.other, UNSEEN: 0.0}
        uppers = [*(f"{edge:.6g}" for edge in variable.edges), "+Inf"] if not self.codes else []
        for i, name in enumerate(self.bins):
            if i < len(variable.shares):
                yield name, variable.shares[i], uppers[i] if uppers else ""
            else:
                yield name, known[name], ""


class Bins:
    """The bins of one model.

    Args:
        profile: Reference profile.
        columns: Columns of the model, in the order of its features.
        output: Form of the model's predictions.
        most_features: Maximum number of features to count; the most important ones are selected.

    Raises:
        LoadError: The profile does not belong to the model.
    """

    def __init__(self, profile: Profile, columns: Sequence[Column], output: Output, most_features: int) -> None:
        self._output = output
        place = {column.name: i for i, column in enumerate(columns)}
        if unknown := [each.name for each in profile.features if each.name not in place]:
            raise _misfit(f"{unknown[0]}, which is not a column of the model")
        if len(profile.predictions) not in (0, output.measures):
            raise _misfit(f"{len(profile.predictions)} predictions, but the model has {output.measures}")
        features = sorted(profile.features, key=lambda each: -each.importance)[:most_features]
        binned: list[Binned] = []
        for each in features:
            _add(binned, each, "feature", place[each.name], columns[place[each.name]].categories)
        for i, each in enumerate(profile.predictions):
            _add(binned, each, "prediction", len(columns) + i, output.classes if each.categories else ())
        self.variables = tuple(binned)
        self.size = binned[-1].above + 1 if binned else 0
        self._prepare_numbers()
        self._prepare_categories()

    def count(self, rows: Matrix, output: Matrix) -> Counts:
        """Return the counts of up to BLOCK_ROWS rows and of the booster's answers to them.

        Args:
            rows: Inputs, shape (rows, columns).
            output: Answers, shape (rows, outputs).
        """
        values = np.hstack([rows, self._output.measured(output)]).T
        found = np.zeros(self.size, dtype=np.intp)
        if self._columns.size:
            self._count_numbers(np.ascontiguousarray(values[self._columns]), found)
        if self._category_columns.size:
            codes = np.nan_to_num(values[self._category_columns], nan=-1).astype(np.intp)
            found += np.bincount(self._table[self._starts + codes].ravel(), minlength=self.size)
        return found

    def _count_numbers(self, numbers: Matrix, found: Counts) -> None:
        """Count numbers, shape (variables, rows), from the number of values up to each edge."""
        up_to = _trues(numbers <= self._edges)
        edges, present, inside = up_to[:-1], up_to[-2], up_to[-1]
        found[self._places[0]] = edges[0]
        found[self._places[1:]] = edges[1:] - edges[:-1]
        found[self._missing] = numbers.shape[1] - present
        found[self._below] = _trues(numbers < self._low)
        found[self._below + 1] = present - inside

    def _prepare_numbers(self) -> None:
        """Build the arrays that counting numeric variables needs."""
        numbers = [each for each in self.variables if not each.codes]
        edges = [each.variable.edges for each in numbers]
        deepest = max(map(len, edges), default=0)
        self._columns = _integers([each.column for each in numbers])
        self._missing = _integers([each.missing for each in numbers])
        self._below = _integers([each.below for each in numbers])
        variables = [each.variable for each in numbers]
        least = [-math.inf if each.minimum is None else each.minimum for each in variables]
        most = [math.inf if each.maximum is None else each.maximum for each in variables]
        self._low = np.array(least, dtype=np.float32)[:, None]
        # One row per edge number, infinite where a variable has fewer edges. The last two rows are infinity, which
        # counts all present values, and the maxima.
        rows = [*zip_longest(*edges, fillvalue=math.inf), [math.inf] * len(numbers), most]
        self._edges = np.array(rows, dtype=np.float32)[:, :, None]
        # Counters of the bins between those edges. Where a variable has fewer bins, the index is that of its missing
        # values, which are written later.
        first = _integers([each.first for each in numbers])
        self._places = np.minimum(first + np.arange(deepest + 1)[:, None], self._missing)

    def _prepare_categories(self) -> None:
        """Build one table of the bins of all categories by code: -1 is missing, and the last one is unknown."""
        categories = [each for each in self.variables if each.codes]
        self._category_columns = _integers([each.column for each in categories])
        table: list[int] = []
        starts: list[int] = []
        for each in categories:
            starts.append(len(table) + 1)
            unseen = each.first + each.bins.index(UNSEEN)
            table += [each.missing, *(each.first + code for code in each.codes), unseen]
        self._table, self._starts = _integers(table), _integers(starts)[:, None]


def _integers(values: list[int]) -> NDArray[np.intp]:
    return np.array(values, dtype=np.intp)


def _trues(found: NDArray[np.bool_]) -> Counts:
    """Count true values along the last axis, as bytes: three times as fast as summing booleans."""
    return found.view(np.uint8).sum(axis=-1, dtype=np.uint16).astype(np.intp)


def _add(binned: list[Binned], variable: Variable, role: str, column: int, categories: tuple[Category, ...]) -> None:
    first = binned[-1].above + 1 if binned else 0
    if bool(categories) != bool(variable.categories):
        profiled, actual = ("category", "number") if variable.categories else ("number", "category")
        raise _misfit(f"{variable.name} as a {profiled}, but the model has it as a {actual}")
    if not categories:
        bins = (*(f"{i:02d}" for i in range(len(variable.edges) + 1)), MISSING)
        binned.append(Binned(variable, role, column, first, bins, ()))
        return
    named = [str(each) for each in variable.categories]
    codes = tuple(named.index(str(each)) if str(each) in named else len(named) for each in categories)
    binned.append(Binned(variable, role, column, first, (*named, OTHER, MISSING, UNSEEN), codes))


def _misfit(what: str) -> LoadError:
    return LoadError(f"the profile in {CONTRACT_FILE} has {what}", "regenerate it from this model's training data")
