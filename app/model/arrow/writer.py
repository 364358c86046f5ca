"""Writer of Arrow's IPC streams: one batch of numbers, booleans and text."""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.arrow.flatbuffers import Builder, Part, structs, table, tables, text

_VERSION = 4  # MetadataVersion V5, of Arrow 1.0 and newer
_SCHEMA, _BATCH = 1, 3
_INT, _FLOAT, _UTF8, _BOOL = 2, 3, 5, 6
_PRECISIONS = {"float32": 1, "float64": 2}
_END = b"\xff\xff\xff\xff\0\0\0\0"

_Column = tuple[int, Part, int, list[bytes]]  # number and table of its type, number of nulls, and buffers


def write(columns: Mapping[str, NDArray[Any] | list[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return a stream.

    Args:
        columns: Values by the name of the column: float32 or float64, or a list, in which None is null. A list with
            values of several types becomes the JSON of each.
        metadata: Metadata of the schema.
    """
    made = [_column(values) for values in columns.values()]
    rows = len(next(iter(columns.values())))
    fields = [
        table(text(name), ("<B", nulls > 0), ("<B", number), form, None, tables([]))
        for name, (number, form, nulls, _) in zip(columns, made, strict=True)
    ]
    pairs = [table(text(key), text(value)) for key, value in metadata.items()]
    schema = table(("<h", 0), tables(fields), tables(pairs))
    body, places = bytearray(), []
    for *_, buffers in made:
        for buffer in buffers:
            places.append((len(body), len(buffer)))
            body += buffer + bytes(-len(buffer) % 8)
    nodes = structs("<qq", [(rows, nulls) for _, _, nulls, _ in made])
    batch = table(("<q", rows), nodes, structs("<qq", places))
    return b"".join([_message(_SCHEMA, schema, 0), _message(_BATCH, batch, len(body)), body, _END])


def _message(number: int, header: Part, size: int) -> bytes:
    content = Builder(table(("<h", _VERSION), ("<B", number), header, ("<q", size))).content()
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(content)) + content


def _column(values: NDArray[Any] | list[Any]) -> _Column:
    if isinstance(values, np.ndarray):
        return _FLOAT, table(("<h", _PRECISIONS[str(values.dtype)])), 0, [b"", values.tobytes()]
    present = [value is not None for value in values]
    nulls = present.count(False)
    valid = _bits(present) if nulls else b""
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return _BOOL, table(), nulls, [valid, _bits([value is True for value in values])]
    if types == {int} and all(value is None or abs(value) < 2**63 for value in values):
        numbers: NDArray[Any] = np.array([value or 0 for value in values], "<i8")
        return _INT, table(("<i", 64), ("<B", 1)), nulls, [valid, numbers.tobytes()]
    if types and types <= {int, float}:
        numbers = np.array([0 if value is None else value for value in values], "<f8")
        return _FLOAT, table(("<h", _PRECISIONS["float64"])), nulls, [valid, numbers.tobytes()]
    texts = values if types <= {str} else [None if value is None else json.dumps(value) for value in values]
    encoded = [(value or "").encode("utf-8", "replace") for value in texts]
    ends = np.zeros(len(encoded) + 1, "<i4")
    np.cumsum([len(each) for each in encoded], out=ends[1:])
    return _UTF8, table(), nulls, [valid, ends.tobytes(), b"".join(encoded)]


def _bits(values: Sequence[bool]) -> bytes:
    return np.packbits(np.array(values, bool), bitorder="little").tobytes()
