"""Read the JSON values that stand for what JSON lacks: moments and bytes."""

import base64
from datetime import UTC, datetime

import numpy as np

YEARS = (1678, 2261)  # what 64 bits of nanoseconds hold, which is what pandas and MLflow count in


def moment(text: str) -> np.datetime64:
    """Return a date or a time of ISO 8601, in UTC; without an offset it is UTC already.

    Raises:
        ValueError: it is none, or none that fits.
    """
    found = datetime.fromisoformat(text)
    if not YEARS[0] <= found.year <= YEARS[1]:
        raise ValueError("outside the years")
    return np.datetime64(found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found, "ns")


def octets(text: str) -> bytes:
    """Return the bytes of a string in base64.

    Raises:
        ValueError: it is none.
    """
    return base64.b64decode(text, validate=True)


def datetime_problem(text: str) -> str:
    """Return what is wrong with a string that should be a moment; "" when nothing is."""
    try:
        moment(text)
    except ValueError:
        return f"must be a date and time of ISO 8601, such as 2026-01-31T12:00:00Z, from {YEARS[0]} to {YEARS[1]}"
    return ""


def binary_problem(text: str) -> str:
    """Return what is wrong with a string that should be bytes in base64; "" when nothing is."""
    try:
        octets(text)
    except ValueError:
        return "must be bytes in base64"
    return ""
