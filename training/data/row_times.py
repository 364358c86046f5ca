"""Times of the rows, by which a split holds out the latest ones."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.errors import InputError

OPTION = "--time-column (TRAINING_TIME_COLUMN)"
_GAP = "--time-gap (TRAINING_TIME_GAP)"
_NANOSECONDS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 604_800 * 10**9}
_DURATION = re.compile(rf"(\d+)([{''.join(_NANOSECONDS)}])")

# A date in nanoseconds since 1970 or a number.
Time = np.int64 | np.float64


@dataclass(frozen=True)
class RowTimes:
    """The time of each row.

    Args:
        values: Nanoseconds since 1970 in UTC as integers, or numbers, shape (rows,).
        dated: Whether the values are nanoseconds.
    """

    values: NDArray[Any]
    dated: bool

    def of(self, rows: NDArray[np.int64]) -> "RowTimes":
        """Return the times of these rows."""
        return RowTimes(self.values[rows], self.dated)

    def gap(self, text: str) -> Time:
        """Return a duration in the unit of the values.

        Raises:
            InputError: The text is not a duration for these values.
        """
        if not text:
            return np.int64(0) if self.dated else np.float64(0)
        if self.dated:
            if not (found := _DURATION.fullmatch(text)):
                raise InputError(f"{_GAP}: {text} is not a duration such as 7d; the units are s, m, h, d and w.")
            return np.int64(int(found[1]) * _NANOSECONDS[found[2]])
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < np.inf:
            raise InputError(f"{_GAP}: {text} is not a positive number, which a time column of numbers needs.")
        return np.float64(number)

    def text(self, time: Time) -> str:
        """Return a time as text: ISO 8601 in UTC, or a number."""
        return str(np.datetime64(int(time), "ns")) if self.dated else repr(float(time))


def parsed(text: str) -> tuple[bool, Time]:
    """Return whether a text of `RowTimes.text` is a date, and its time."""
    try:
        return False, np.float64(text)
    except ValueError:
        return True, np.int64(np.datetime64(text, "ns").astype(np.int64))


def times_of(table: pa.Table, name: str) -> RowTimes:
    """Return the time of each row.

    Raises:
        InputError: A row has no time, or the column does not contain numbers, dates or ISO 8601 text.
    """
    cells = table.column(name).combine_chunks()
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    cells = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    missing = pc.is_null(cells, nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.any():
        raise InputError(f"{OPTION}: row {int(missing.argmax()) + 1} has no value in the column {name}.")
    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        return RowTimes(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dated=False)
    if (found := moments(cells)) is None:
        raise InputError(
            f"{OPTION}: column {name} has the type {cells.type}, and not each value is a number, a date or a time in "
            "ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00."
        )
    return RowTimes(found.to_numpy(zero_copy_only=False), dated=True)


def moments(cells: pa.Array) -> pa.Array | None:
    """Return nanoseconds since 1970 in UTC as integers, or None if a cell is not a date."""
    kind = cells.type
    if pa.types.is_time(kind) or not (pa.types.is_temporal(kind) or pa.types.is_string(kind)):
        return None
    for wanted in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):  # text with an offset needs the second one
        try:
            return cells.cast(wanted).cast(pa.int64())
        except MemoryError:
            raise
        except pa.ArrowException:
            continue
    return None
