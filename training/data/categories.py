"""Categories of a column, by number."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.model.contract import ContractColumn
from training.errors import InputError

log = logging.getLogger(__name__)


def numbered(column: Any, name: str, kind: str, fewest: int) -> tuple[ContractColumn, "pd.Series[Any]"]:
    """Return the description of a column of categories, and its values as categories.

    They are numbered in the order of their values, so that the order of the rows does not matter.

    Args:
        column: Arrow column of text or whole numbers.
        name: Name of the column.
        kind: MLflow's name of its type.
        fewest: Number of rows that a category needs. The values of rarer ones are missing.

    Raises:
        InputError: All categories are rarer.
    """
    encoded = column.dictionary_encode()
    found = encoded.dictionary.to_pylist()
    indices = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    rows = np.bincount(indices, minlength=len(found) + 1)[: len(found)]
    order = sorted(np.flatnonzero(rows >= fewest).tolist(), key=lambda i: found[i])
    _report_rare(name, rows, fewest, len(column))
    place = np.full(len(found) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    codes = place[indices]
    categories = [found[i] for i in order]
    if len(categories) > max(1000, len(column) // 2):
        log.warning(
            "column %s has %d distinct values in %d rows; is it an identifier?", name, len(categories), len(column)
        )
    values = pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(categories)))
    return ContractColumn(name=name, type=kind, categories=tuple(categories)), values


def _report_rare(name: str, rows: NDArray[np.int64], fewest: int, total: int) -> None:
    """Log how many categories are rarer than allowed, by the number of rows of each category.

    Raises:
        InputError: All categories are rarer.
    """
    rare = rows < fewest
    if rare.all():
        raise InputError(
            f"--min-category-count (TRAINING_MIN_CATEGORY_COUNT): no category of column {name} has {fewest} rows; use "
            "a smaller number, or leave the column out with --drop."
        )
    if rare.any():
        share = rows[rare].sum() / total
        log.info(
            "column %s: %d of %d categories have fewer than %d rows (%.1f %% of all rows) and are missing values",
            name, rare.sum(), len(rows), fewest, 100 * share,
        )  # fmt: skip
