"""A number from 0 to 1 for each row, by a hash of its key. It decides whether the row is in the holdout.

The number depends only on the cells of the key and on the seed. A row therefore stays in its part when the table grows
or is sorted. A seed and a share divide all tables with the same key columns alike.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.column_names import check_present
from training.errors import InputError

ALL = "*"  # every column
_MISSING = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def key_columns(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the key in their order.

    Raises:
        InputError: A column does not exist.
    """
    if ALL in wanted:
        return tuple(sorted(names))
    check_present(names, wanted, "--holdout-key (TRAINING_HOLDOUT_KEY)")
    return tuple(sorted(set(wanted)))


def key_hashes(table: pa.Table, columns: Sequence[str]) -> Hashes:
    """Return the hash of the key of each row, shape (rows,).

    Raises:
        InputError: A column contains lists or other values that have no text.
    """
    total = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        total += _mixed(_cells(table.column(name), name) ^ _text_hash(name))
    return total


def fractions(hashes: Hashes, seed: int) -> NDArray[np.float64]:
    """Return the number of each row, shape (rows,), at least 0 and below 1."""
    return (_mixed(hashes ^ _text_hash(f"seed {seed}")) >> np.uint64(11)) / 2.0**53


def _cells(column: pa.ChunkedArray, name: str) -> Hashes:
    """Return a hash of each cell. 1 and 1.0 have the same hash, because a file may change the type of a column."""
    cells = column.combine_chunks()
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    kind = cells.type
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        kind = pa.uint8() if pa.types.is_boolean(kind) else kind
        values = cells.cast(kind).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        return np.where(np.isnan(values), _MISSING, values.view(np.uint64))
    try:
        encoded = cells if pa.types.is_dictionary(kind) else pc.dictionary_encode(cells)
        texts = encoded.dictionary.cast(pa.string()).to_pylist()
    except MemoryError:  # Arrow's own is also an ArrowException
        raise
    except pa.ArrowException:
        raise InputError(f"--holdout-key (TRAINING_HOLDOUT_KEY): column {name} has the type {kind}.") from None
    known = np.array([*(_MISSING if text is None else _text_hash(text) for text in texts), _MISSING], dtype=np.uint64)
    return np.asarray(known[encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)])


def _text_hash(text: Any) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mixed(values: Hashes) -> Hashes:
    """Return a bijection of the values in which each bit depends on all bits.

    Source: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014 (the finalizer of SplitMix64)
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
