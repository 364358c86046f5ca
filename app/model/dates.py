"""Features that are made from a date: numbers of the calendar in UTC, which trees can split.

Training and the service call the same functions, so that a date gives the same features in both, bit for bit.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from app.model.contract import DatePart
from app.model.json_values import utc_moment

PARTS: tuple[DatePart, ...] = get_args(DatePart)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY, _HOUR = 86_400, 3600
_MONDAY = 3  # days from Monday to Thursday, the day of week of 1970-01-01


def feature_names(column: str, parts: Sequence[DatePart]) -> tuple[str, ...]:
    """Return the names of the features of a column: of each part of a date, or of the column itself."""
    return tuple(f"{column}.{part}" for part in parts) or (column,)


def seconds(text: str) -> float:
    """Return the whole seconds since 1970 of an ISO 8601 date or time.

    Raises:
        ValueError: The text is malformed, or outside the supported years.
    """
    since = utc_moment(text) - _EPOCH
    return float(since.days * _DAY + since.seconds)


def parts_of(moments: NDArray[np.float64], parts: Sequence[DatePart]) -> NDArray[np.float32]:
    """Return the parts of dates, shape (rows, parts).

    Args:
        moments: Whole seconds since 1970, shape (rows,). NaN is a missing value, and so are its parts.
        parts: year, month (1 to 12), day (1 to 31), weekday (0 is Monday), hour, or the days since 1970-01-01.
    """
    days = np.floor(moments / _DAY)
    missing = np.isnan(days)
    dates = np.where(missing, 0, days).astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    found = np.empty((len(moments), len(parts)), dtype=np.float32)
    for i, part in enumerate(parts):
        match part:
            case "year":
                found[:, i] = dates.astype("datetime64[Y]").astype(np.int64) + 1970
            case "month":
                found[:, i] = months.astype(np.int64) % 12 + 1
            case "day":
                found[:, i] = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
            case "weekday":
                found[:, i] = (days + _MONDAY) % 7
            case "hour":
                found[:, i] = (moments - days * _DAY) // _HOUR
            case "days":
                found[:, i] = moments / _DAY
    found[missing] = np.nan
    return found
