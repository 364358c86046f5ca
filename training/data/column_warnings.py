"""Warnings about columns that XGBoost takes, but hardly as the user meant them."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 2**24  # up to here, a 32-bit number represents every whole number
# Digits with thousands separators, decimal commas, currencies or a percent sign, such as $1,000 or 5 %.
_NUMBER = re.compile(r"[-+(]?\s*[$€£¥]?\s*[-+]?\d[\d.,' ]*(?:e[-+]?\d+)?\s*[%$€£¥]?\)?", re.IGNORECASE)
_MOST = 0.9  # share of the values
_LOOKED_AT = 1000  # distinct values

log = logging.getLogger("training")


def warn_of_text_numbers(name: str, categories: Sequence[str], indices: NDArray[Any]) -> None:
    """Warn if the text of a column consists of numbers, each of which becomes a category.

    Args:
        name: Column.
        categories: Distinct values in the order of their first rows.
        indices: Position of the value of each row in `categories`, shape (rows,).
    """
    texts = [text.strip() for text in categories[:_LOOKED_AT]]
    alike = [position for position, text in enumerate(texts) if _NUMBER.fullmatch(text)]
    if alike and len(alike) >= _MOST * len(texts):
        log.warning(
            "column %s contains numbers as text, such as %r in row %d; its %d values become categories without an "
            "order. Name their notation with --csv-decimal or --csv-thousands, write them as plain numbers, leave the "
            "column out with --drop, or confirm it with --categorical.",
            name, categories[alike[0]], int((indices == alike[0]).argmax()) + 1, len(categories),
        )  # fmt: skip


def warn_of_lost_digits(name: str, exact: NDArray[Any], rounded: NDArray[np.float32]) -> None:
    """Warn if whole numbers differ from their 32-bit numbers, because XGBoost then confuses neighbours.

    Args:
        name: Column.
        exact: Values as integers or 64-bit numbers, shape (rows,).
        rounded: The same values as 32-bit numbers, shape (rows,).
    """
    with np.errstate(invalid="ignore"):
        large = np.flatnonzero(np.abs(rounded) >= EXACT)
    values, wide = exact[large], rounded[large].astype(np.float64)
    if values.dtype == np.int64:  # a 64-bit floating-point number would hide a difference
        lost = np.where(wide < 2.0**63, wide, 0).astype(np.int64) != values
    else:
        lost = (wide != values) & (values == np.trunc(values))
    if lost.any():
        first = int(lost.argmax())
        log.warning(
            "column %s: %d of %d values lose digits as 32-bit numbers, such as %d in row %d, which becomes %d. Leave "
            "identifiers out with --drop, or make them --categorical.",
            name, int(lost.sum()), len(exact), int(values[first]), int(large[first]) + 1, int(wide[first]),
        )  # fmt: skip
