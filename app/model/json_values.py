"""JSON strings that represent other types: dates with times, and bytes."""

import base64
from datetime import UTC, datetime

import numpy as np

YEARS = (1678, 2261)  # the range of 64-bit nanoseconds, which pandas and MLflow use


def utc_moment(text: str) -> datetime:
    """Parse an ISO 8601 date, or date and time; without an offset it is in UTC.

    Raises:
        ValueError: The text is malformed, or outside the supported years.
    """
    found = datetime.fromisoformat(text)
    if not YEARS[0] <= found.year <= YEARS[1]:
        raise ValueError("outside the years")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def moment(text: str) -> np.datetime64:
    """Return what `utc_moment` returns as NumPy's type; raises its error."""
    return np.datetime64(utc_moment(text).replace(tzinfo=None), "ns")


def octets(text: str) -> bytes:
    """Decode a base64 string.

    Raises:
        ValueError: The text is not valid base64.
    """
    return base64.b64decode(text, validate=True)


def datetime_problem(text: str) -> str:
    """Return the problem of a string that should be a date and time, or "" if it is valid."""
    try:
        moment(text)
    except ValueError:
        return f"must be an ISO 8601 date and time, such as 2026-01-31T12:00:00Z, from {YEARS[0]} to {YEARS[1]}"
    return ""


def binary_problem(text: str) -> str:
    """Return the problem of a string that should be base64, or "" if it is valid."""
    try:
        octets(text)
    except ValueError:
        return "must be bytes in base64"
    return ""
