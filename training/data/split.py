"""The split of the rows into a holdout and the parts that choose the number of rounds.

The same data and seed give the same rows on every machine, because numpy freezes the stream of `RandomState`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Data, SplitSpec
from training.data.row_hash import fractions
from training.data.row_times import RowTimes, Time
from training.errors import InputError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Sorted row numbers by part.

    Args:
        rule: How the holdout is chosen.
        rest: Rows to train on.
        holdout: Rows to measure the model on.
        folds: Pairs of training and validation rows.
        time_from: First time of the holdout of a split by time.
    """

    rule: Literal["stratified", "grouped", "random", "hashed", "timed"]
    rest: Rows
    holdout: Rows
    folds: tuple[tuple[Rows, Rows], ...]
    time_from: str = ""

    @property
    def holdout_sha256(self) -> str:
        """Digest of the row numbers of the holdout. Metrics are comparable only if it is equal."""
        return hashlib.sha256(self.holdout.astype("<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """Digests and row count of the complete training data, independent of the number of workers."""

    raw_sha256: str
    sha256: str
    rows: int
    holdout_sha256: str
    workers: int = 1
    shard_rule: str = ""


def identity(data: Data, parts: Split) -> Identity:
    """Return the identity of data that a single worker loaded."""
    return Identity(data.raw_sha256, data.sha256, len(data.target), parts.holdout_sha256)


def split(data: Data, spec: SplitSpec) -> Split:
    """Split rows by groups if there are any, otherwise stratified by class or at random.

    If the data have a key, its hash alone decides the holdout. If they have times, the latest rows are the holdout.

    Raises:
        InputError: There are too few rows or groups for the parts.
    """
    if data.times is not None:
        return _by_time(data, data.times, spec)
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
    if data.key_hashes is None:
        held = [max(1, min(round(len(each) * spec.holdout_share), len(each) - parts + 1)) for each in drawn]
        chosen = [each[:count] for each, count in zip(drawn, held, strict=True)]
        left = [each[count:] for each, count in zip(drawn, held, strict=True)]
    else:
        chosen, left = _by_key(data, units, drawn, spec, parts - 1)
    holdout, rest = _rows(units, chosen), _rows(units, left)
    validations = []
    if spec.folds == 1:
        counts = [max(1, min(round(len(each) * spec.validation_share), len(each) - 1)) for each in left]
        validations.append(_rows(units, [each[:count] for each, count in zip(left, counts, strict=True)]))
    else:
        validations += [_rows(units, [each[k :: spec.folds] for each in left]) for k in range(spec.folds)]
    folds = tuple((rest[~_chosen(len(rows), [validation])[rest]], validation) for validation in validations)
    if data.groups is not None and data.classes:
        _all_classes(data, [rest, *(train for train, _ in folds)], "in too few groups", "another --split-seed")
    return Split(rule if data.key_hashes is None else "hashed", rest, holdout, folds)


def _by_key(
    data: Data, units: NDArray[Any], strata: Sequence[Rows], spec: SplitSpec, fewest: int
) -> tuple[list[Rows], list[Rows]]:
    """Return the held-out units and the others by stratum.

    Raises:
        InputError: The hash holds out no row, or leaves fewer units of a stratum than the folds need.
    """
    assert data.key_hashes is not None  # noqa: S101 - for the type
    held = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    held[units] = fractions(data.key_hashes, spec.seed) < spec.holdout_share
    left = [each[~held[each]] for each in strata]
    if not held.any() or min(map(len, left)) < fewest:
        raise InputError(
            f"--holdout-key (TRAINING_HOLDOUT_KEY): the hash of {', '.join(data.key)[:100]} holds out "
            f"{int(held.sum())} of {len(held)} rows or groups; use a key with more values, or another --split-seed."
        )
    return [each[held[each]] for each in strata], left


def _by_time(data: Data, times: RowTimes, spec: SplitSpec) -> Split:
    """Hold out the latest rows, and validate on the latest of the others. Rows of the same time stay together.

    Several folds validate on consecutive periods, and train on the rows before each.
    """
    gap = times.gap(spec.time_gap)
    rows = np.arange(len(times.values), dtype=np.int64)
    start = _latest(times, rows, spec.holdout_share)
    holdout, rest = rows[times.values >= start], rows[times.values < start - gap]
    folds = []
    if spec.folds == 1:
        begin = _latest(times, rest, spec.validation_share)
        folds.append(_period(times, rest, begin, None, gap))
    else:
        shares = [1 - k / (spec.folds + 1) for k in range(1, spec.folds + 1)]
        begins = [_latest(times, rest, share) for share in shares]
        folds += [_period(times, rest, begin, end, gap) for begin, end in zip(begins, [*begins[1:], None], strict=True)]
    parts = [rest, *(train for train, _ in folds)]
    if not all(map(len, [*parts, *(validation for _, validation in folds)])):
        raise InputError(
            f"--time-column (TRAINING_TIME_COLUMN): {data.spec.time_column} does not have enough different times for "
            f"{spec.folds} fold(s); use fewer --folds or a shorter --time-gap."
        )
    if data.classes:
        _all_classes(data, parts, "too late", "a smaller --holdout-share")
    return Split("timed", rest, holdout, tuple(folds), times.text(start))


def _latest(times: RowTimes, rows: Rows, share: float) -> Time:
    """Return the time from which on this share of the rows lies, at least one row."""
    ordered = np.sort(times.of(rows).values)
    found: Time = ordered[max(0, len(ordered) - max(1, round(len(ordered) * share)))] if len(ordered) else np.int64(0)
    return found


def _period(times: RowTimes, rows: Rows, begin: Time, end: Time | None, gap: Time) -> tuple[Rows, Rows]:
    """Return the rows before a period and its gap, and the rows of the period."""
    values = times.of(rows).values
    inside = values >= begin if end is None else (values >= begin) & (values < end)
    return rows[values < begin - gap], rows[inside]


def _rows(units: NDArray[Any], chosen: Sequence[Rows]) -> Rows:
    return np.flatnonzero(_chosen(int(units.max()) + 1, chosen)[units]).astype(np.int64)


def _chosen(count: int, numbers: Sequence[Rows]) -> NDArray[np.bool_]:
    """Return a mask of these numbers, without a sort, because there can be millions of rows."""
    found = np.zeros(count, dtype=np.bool_)
    found[np.concatenate(numbers)] = True
    return found


def _all_classes(data: Data, parts: Sequence[Rows], why: str, remedy: str) -> None:
    for part in parts:
        missing = set(range(len(data.classes))) - set(np.unique(data.target[part]).astype(int).tolist())
        if missing:
            name = data.classes[min(missing)]
            raise InputError(f"The class {name} is {why}: a training part does not contain it; try {remedy}.")
