"""Columns of dates and times, from which training and scoring make the same features as the service."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import ContractColumn, DatePart
from app.model.dates import feature_names, parts_of, seconds
from app.model.json_values import YEARS, datetime_problem
from training.errors import InputError

OPTION = "--dates (TRAINING_DATES)"

Moments = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
_DAY = 86_400
_BOUNDS = tuple(float(np.datetime64(f"{year}-01-01", "s").astype(np.int64)) for year in (YEARS[0], YEARS[1] + 1))
_LOOKED_AT = 1000  # texts


def moments_of(cells: pa.Array) -> tuple[Moments, Mask]:
    """Return the whole seconds since 1970 of each cell, NaN where it is missing, and which cells are not dates.

    Args:
        cells: Dates, timestamps or text in ISO 8601. A timestamp without a time zone is in UTC.
    """
    kind = cells.type
    if pa.types.is_null(kind):
        return np.full(len(cells), np.nan), np.zeros(len(cells), dtype=np.bool_)
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text):
        return _from_text(cells if pa.types.is_dictionary(kind) else cells.cast(pa.string()).dictionary_encode())
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return np.full(len(cells), np.nan), np.ones(len(cells), dtype=np.bool_)
    missing = pc.is_null(cells).to_numpy(zero_copy_only=False)
    if pa.types.is_date32(kind):
        whole = pc.fill_null(cells.cast(pa.int32()), 0).to_numpy(zero_copy_only=False).astype(np.int64) * _DAY
    else:
        per_second = 1000 if pa.types.is_date64(kind) else _PER_SECOND[kind.unit]
        whole = pc.fill_null(cells.cast(pa.int64()), 0).to_numpy(zero_copy_only=False) // per_second
    values = np.where(missing, np.nan, whole.astype(np.float64))
    outside = (values < _BOUNDS[0]) | (values >= _BOUNDS[1])  # false for NaN
    return np.where(outside, np.nan, values), outside


def feature(
    table: pa.Table, name: str, parts: Sequence[DatePart]
) -> tuple[ContractColumn, dict[str, "pd.Series[Any]"], Moments]:
    """Return the description of a column of dates, its parts as float32 by name, and its moments.

    Args:
        table: Table with the column.
        name: Name of the column.
        parts: Parts, which become features.

    Raises:
        InputError: A cell is not a date, or all cells are missing.
    """
    cells = table.column(name).combine_chunks()
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    moments, wrong = moments_of(cells)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{OPTION}: row {row + 1}, column {name}: {str(cells[row].as_py())[:50]!r} is not a date or time in ISO "
            f"8601, such as 2026-01-31 or 2026-01-31T12:00:00, from {YEARS[0]} to {YEARS[1]}; correct it, or add it to "
            "--null-words if it stands for a missing value."
        )
    if np.isnan(moments).all():
        raise InputError(f"Column {name} has no value in any row; fill it, or leave it out with --drop.")
    values = parts_of(moments, parts)
    columns = {each: pd.Series(values[:, i]) for i, each in enumerate(feature_names(name, parts))}
    return ContractColumn(name=name, type="datetime", parts=tuple(parts)), columns, moments


def check_dates(names: Sequence[str], features: Collection[str], parts: Sequence[DatePart]) -> None:
    """Refuse columns of dates that are not features, and features with the name of another column.

    Raises:
        InputError: The message names the column.
    """
    for name in names:
        if name not in features:
            raise InputError(f"{OPTION}: column {name} is not a feature: it is the target, another option, or dropped.")
        if taken := [each for each in feature_names(name, parts) if each in features]:
            raise InputError(f"{OPTION}: column {taken[0]} has the name of a part of {name}; rename it.")


def are_dates(values: Sequence[str | None]) -> bool:
    """Return whether the first texts are dates, as a column of dates that is stored as text has them."""
    known = [value for value in values[:_LOOKED_AT] if value is not None]
    # Short texts such as 20260131 are whole numbers, too.
    return bool(known) and all("-" in value and not datetime_problem(value) for value in known)


def _from_text(encoded: pa.DictionaryArray) -> tuple[Moments, Mask]:
    texts = [*encoded.dictionary.to_pylist(), None]
    indices = encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    known = np.array(list(map(_seconds, texts)), dtype=np.float64)
    wrong = np.isnan(known) & np.array([text is not None for text in texts])
    return known[indices], wrong[indices]


def _seconds(text: str | None) -> float:
    try:
        return np.nan if text is None else seconds(text)
    except ValueError:
        return np.nan
