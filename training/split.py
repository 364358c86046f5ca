"""Set rows apart: the holdout, and within the rest the parts that choose the number of rounds.

The same data and seed give the same rows on every machine: the generator is the one that numpy keeps as it is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.data import Data, SplitSpec
from training.errors import InputError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers, each part sorted; `folds` are pairs of the rows to train on and those to validate on."""

    rule: Literal["stratified", "grouped", "random"]
    rest: Rows
    holdout: Rows
    folds: tuple[tuple[Rows, Rows], ...]

    @property
    def holdout_sha256(self) -> str:
        """Digest of the holdout's row numbers: metrics compare only where it is equal."""
        return hashlib.sha256(self.holdout.astype("<i8").tobytes()).hexdigest()


def split(data: Data, spec: SplitSpec) -> Split:
    """Split rows by class share, whole groups where there are groups, else by chance.

    Raises:
        InputError: too few rows or groups for parts that can be trained on and measured.
    """
    random = np.random.RandomState(spec.seed)
    rows = np.arange(len(data.target), dtype=np.int64)
    units: NDArray[Any] = rows if data.groups is None else data.groups
    rule: Literal["stratified", "grouped", "random"]
    strata: Sequence[Rows]
    if data.groups is not None:
        rule, strata = "grouped", [np.unique(data.groups)]
    elif data.classes:
        rule, strata = "stratified", [rows[data.target == number] for number in range(len(data.classes))]
    else:
        rule, strata = "random", [rows]
    parts = max(spec.folds, 2) + 1
    for i, members in enumerate(strata):
        if len(members) < parts:
            what = {"grouped": "groups", "random": "rows"}.get(rule) or f"rows of the class {data.classes[i]}"
            raise InputError(f"There are {len(members)} {what}; a split with {spec.folds} fold(s) needs {parts}.")
    drawn = [random.permutation(members) for members in strata]
    held = [max(1, min(round(len(each) * spec.holdout_share), len(each) - parts + 1)) for each in drawn]
    holdout = _rows(units, [each[:count] for each, count in zip(drawn, held, strict=True)])
    left = [each[count:] for each, count in zip(drawn, held, strict=True)]
    rest = _rows(units, left)
    validations = []
    if spec.folds == 1:
        counts = [max(1, min(round(len(each) * spec.validation_share), len(each) - 1)) for each in left]
        validations.append(_rows(units, [each[:count] for each, count in zip(left, counts, strict=True)]))
    else:
        validations += [_rows(units, [each[k :: spec.folds] for each in left]) for k in range(spec.folds)]
    folds = tuple((rest[~_chosen(len(rows), [validation])[rest]], validation) for validation in validations)
    if data.groups is not None and data.classes:
        _all_classes(data, [rest, *(train for train, _ in folds)])
    return Split(rule, rest, holdout, folds)


def _rows(units: NDArray[Any], chosen: Sequence[Rows]) -> Rows:
    return np.flatnonzero(_chosen(int(units.max()) + 1, chosen)[units]).astype(np.int64)


def _chosen(count: int, numbers: Sequence[Rows]) -> NDArray[np.bool_]:
    """Return which of so many numbers are among these; no sort, as millions of rows are no rarity."""
    found = np.zeros(count, dtype=np.bool_)
    found[np.concatenate(numbers)] = True
    return found


def _all_classes(data: Data, parts: Sequence[Rows]) -> None:
    for part in parts:
        missing = set(range(len(data.classes))) - set(np.unique(data.target[part]).astype(int).tolist())
        if missing:
            name = data.classes[min(missing)]
            raise InputError(f"The class {name} is in too few groups: a part to train on has none; try --split-seed.")
