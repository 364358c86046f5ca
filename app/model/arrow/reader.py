"""Reader of Arrow's IPC streams: one flat table of numbers, booleans, text, dates and dictionaries.

Numbers are read without a copy. What a stream declares is checked against its bytes before it is used: rows against the
limit, and buffers against the message, where they may not overlap. The rows of a body therefore never take more memory
than a small multiple of its size and the limit of rows.

Source: arrow.apache.org/docs/format/Columnar.html, with its Message.fbs and Schema.fbs.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import CellError, InvalidInputError, NotArrowError
from app.model import pieces
from app.model.arrow.flatbuffers import MetadataError, Table

Values = NDArray[Any] | list[Any]

Mask = NDArray[np.bool_] | None

_CONTINUES = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # types of messages
_NULL, _INT, _FLOAT, _UTF8, _BOOL, _DECIMAL, _DATE, _TIMESTAMP, _LARGE_UTF8 = 1, 2, 3, 5, 6, 7, 8, 10, 20
_OTHERS = {
    **{4: "binary", 9: "time", 11: "interval", 12: "list", 13: "struct", 14: "union", 15: "fixed-size binary"},
    **{16: "fixed-size list", 17: "map", 18: "duration", 19: "large binary", 21: "large list", 22: "run-end encoded"},
    **{23: "binary view", 24: "string view", 25: "list view", 26: "large list view"},
}
_FLOATS = ("<f2", "<f4", "<f8")
_UNITS = ("s", "ms", "us", "ns")
_MOST_SCALE = 76  # digits of the widest decimal
_SUPPORTED = "numbers, booleans, strings (utf8 or large_utf8), dates, timestamps, and dictionaries of these"
_COMPRESSED = "The Arrow stream has compressed buffers: write it without compression, and use Content-Encoding instead."


@dataclass(frozen=True)
class ArrowColumn:
    """One column.

    Args:
        name: Name of the column.
        kind: Kind of its values: number, boolean, string, datetime or null.
        values: Numbers or booleans as an array, otherwise a list in which None is null.
        present: Whether each number or boolean is present; None: all.
    """

    name: str
    kind: str
    values: Values
    present: Mask = None

    def cells(self) -> list[Any]:
        """Return the values as cells of a JSON body; None for null and NaN."""
        if isinstance(self.values, list):
            return self.values
        cells = self.values.tolist()
        if self.values.dtype.kind == "f":
            cells = [None if value != value else value for value in cells]
        return _masked(cells, self.present)


@dataclass(frozen=True)
class _Type:
    """How the buffers of a column are read.

    Args:
        kind: As in `ArrowColumn`.
        buffers: Number of buffers after the validity bitmap; -1: not even that.
        decode: Returns the values, from these buffers and the number of rows.
    """

    kind: str
    buffers: int
    decode: Callable[[Sequence[memoryview], int], Values]


@dataclass(frozen=True)
class _Field:
    """A column in the schema; `dictionary` is the ID of its dictionary, of whose values `stored` are the indices."""

    name: str
    value: _Type
    stored: _Type
    dictionary: int | None


def read(content: bytes, most_rows: int, most_columns: int) -> list[ArrowColumn]:
    """Return the columns of a stream.

    Args:
        content: Arrow IPC stream.
        most_rows: Maximum number of rows.
        most_columns: Maximum number of columns.

    Raises:
        NotArrowError: The stream is damaged.
        InvalidInputError: It has a feature or a type that is not supported, too many columns, or no rows.
        TooLargeError: It has too many rows.
    """
    try:
        return _read(memoryview(content), most_rows, most_columns)
    except (MetadataError, struct.error, UnicodeDecodeError, IndexError):
        raise NotArrowError("The body is not a valid Arrow IPC stream.") from None


def _read(content: memoryview, most_rows: int, most_columns: int) -> list[ArrowColumn]:
    messages = _messages(content)
    kind, schema, _ = _known(next(messages, None))
    _require(kind == _SCHEMA)
    entries = schema.tables(1)
    if schema.number(0, "<h"):
        raise InvalidInputError("The Arrow stream is big-endian; write it in little-endian order.")
    if len(entries) > most_columns:
        raise InvalidInputError(f"The Arrow stream has {len(entries)} columns; send only the columns of the model.")
    fields = [_field(entry) for entry in entries]
    dictionaries: dict[int | None, list[Any]] = {}
    parts: list[list[ArrowColumn]] = [[] for _ in fields]
    count = 0
    for kind, header, body in messages:
        if kind == _BATCH:
            rows = header.number(0, "<q")
            pieces.require(count := count + rows, most_rows)
            for part, field, column in zip(parts, fields, _batch(header, body, rows, fields), strict=True):
                known = dictionaries.get(field.dictionary)
                part.append(column if field.dictionary is None else _looked_up(column, field, known))
        else:
            _require(kind == _DICTIONARY)
            batch, identity = _known(header.table(1)), header.number(0, "<q")
            field = _known(next((each for each in fields if each.dictionary == identity), None))
            rows = batch.number(0, "<q")
            _require(rows <= max(len(body), most_rows))
            plain = _Field(field.name, field.value, field.value, None)
            cells = _batch(batch, body, rows, [plain])[0].cells()
            dictionaries[identity] = dictionaries.get(identity, []) + cells if header.number(2, "<B") else cells
    if not count:
        raise InvalidInputError("The Arrow stream must contain at least one row.")
    return [_joined(part) for part in parts]


def _messages(content: memoryview) -> Iterator[tuple[int, Table, memoryview]]:
    """Yield the type, header and body of each message."""
    at = 0
    while at < len(content):
        _require(content[at : at + 4] == _CONTINUES)
        (size,) = struct.unpack_from("<i", content, at + 4)
        if size == 0:
            break
        start = at + 8 + size
        _require(size > 0 and start <= len(content))
        message = Table.root(content[at + 8 : start])
        length, header = message.number(3, "<q"), _known(message.table(2))
        _require(0 <= length <= len(content) - start)
        yield message.number(1, "<B"), header, content[start : start + length]
        at = start + length


def _batch(batch: Table, body: memoryview, rows: int, fields: Sequence[_Field]) -> list[ArrowColumn]:
    """Return the columns of a batch, as they are stored."""
    if batch.table(3) is not None:
        raise InvalidInputError(_COMPRESSED)
    nodes, buffers = batch.structs(1, "<qq"), _buffers(batch.structs(2, "<qq"), body)
    _require(rows >= 0 and [length for length, _ in nodes] == [rows] * len(fields))
    _require(len(buffers) == sum(1 + each.stored.buffers for each in fields))
    found = []
    for field, (_, nulls) in zip(fields, nodes, strict=True):
        own = [buffers.pop() for _ in range(1 + field.stored.buffers)]
        present = _bits(own[0], rows) if nulls and own else None
        values = field.stored.decode(own[1:], rows)
        if isinstance(values, list):
            values, present = _masked(values, present), None
        found.append(ArrowColumn(field.name, field.stored.kind, values, present))
    return found


def _buffers(places: Sequence[tuple[int, ...]], body: memoryview) -> list[memoryview]:
    """Return the buffers of a message, the last one first. They may not overlap, so that text cannot be read twice."""
    found, end = [], 0
    for offset, length in places:
        if length:
            _require(end <= offset and 0 < length <= len(body) - offset)
            end = offset + length
        found.append(body[offset : offset + length] if length else body[:0])
    return found[::-1]


def _looked_up(column: ArrowColumn, field: _Field, known: list[Any] | None) -> ArrowColumn:
    """Return the values of a column of indices."""
    cells, places = _known(known), np.asarray(column.values)
    if column.present is not None:
        cells, places = [*cells, None], np.where(column.present, places, len(cells))
    _require(not places.size or 0 <= int(places.min()) <= int(places.max()) < len(cells))
    return ArrowColumn(field.name, field.value.kind, [cells[place] for place in places.tolist()])


def _joined(parts: Sequence[ArrowColumn]) -> ArrowColumn:
    """Return the column of all batches."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first.values, list):
        return replace(first, values=[value for part in parts for value in part.cells()])
    present: Mask = None
    if any(part.present is not None for part in parts):
        masks = [np.ones(len(part.values), bool) if part.present is None else part.present for part in parts]
        present = np.concatenate(masks)
    return replace(first, values=np.concatenate([np.asarray(part.values) for part in parts]), present=present)


def _field(entry: Table) -> _Field:
    """Return a column of the schema.

    Raises:
        InvalidInputError: Its type is not supported.
    """
    name = entry.text(0)
    value = stored = _type(name, entry.number(2, "<B"), _known(entry.table(3)))
    encoding = entry.table(4)
    if encoding is None:
        return _Field(name, value, stored, None)
    index = encoding.table(1)
    return _Field(name, value, _type(name, _INT, index) if index else _integers("<i4"), encoding.number(0, "<q"))


def _type(name: str, number: int, form: Table) -> _Type:
    if number == _NULL:
        return _Type("null", -1, lambda _, rows: [None] * rows)
    if number == _BOOL:
        return _Type("boolean", 1, lambda own, rows: _bits(own[0], rows))
    if number == _INT:
        size, sign = form.number(0, "<i"), "i" if form.number(1, "<B") else "u"
        _require(size in (8, 16, 32, 64))
        return _integers(f"<{sign}{size // 8}")
    if number == _FLOAT:
        precision = form.number(0, "<h")
        _require(0 <= precision < len(_FLOATS))
        return _integers(_FLOATS[precision])
    if number in (_UTF8, _LARGE_UTF8):
        offsets = "<i4" if number == _UTF8 else "<i8"
        return _Type("string", 2, lambda own, rows: _texts(_array(own[0], offsets, rows + 1 if rows else 0), own[1]))
    if number == _DECIMAL:
        scale, size = form.number(1, "<i"), form.number(2, "<i", 128) // 8
        _require(abs(scale) <= _MOST_SCALE and size in (4, 8, 16, 32))
        return _Type("number", 1, lambda own, rows: _decimals(own[0], rows, size, scale))
    if number in (_DATE, _TIMESTAMP):
        unit = form.number(0, "<h", 1 if number == _DATE else 0)
        _require(0 <= unit < len(_UNITS))
        days = number == _DATE and unit == 0
        code = "D" if days else "ms" if number == _DATE else _UNITS[unit]
        size = 4 if days else 8
        return _Type("datetime", 1, lambda own, rows: _moments(_array(own[0], f"<i{size}", rows), code))
    what = _OTHERS.get(number, "an unknown type")
    raise InvalidInputError(
        "The input has 1 problem.",
        [CellError(None, name[:200], f"has the Arrow type {what}; supported are {_SUPPORTED}")],
        1,
    )


def _integers(dtype: str) -> _Type:
    return _Type("number", 1, lambda own, rows: _array(own[0], dtype, rows))


def _array(buffer: memoryview, dtype: str, count: int) -> NDArray[Any]:
    _require(len(buffer) >= count * np.dtype(dtype).itemsize)
    return np.frombuffer(buffer, dtype, count) if count else np.empty(0, dtype)


def _bits(buffer: memoryview, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(_array(buffer, "u1", -(-count // 8)), count=count, bitorder="little").astype(bool)


def _texts(offsets: NDArray[Any], text: memoryview) -> list[Any]:
    ends = offsets.tolist()
    _require(not ends or (ends[0] >= 0 and ends[-1] <= len(text) and bool((np.diff(offsets) >= 0).all())))
    return [str(text[start:end], "utf-8") for start, end in pairwise(ends)]


def _decimals(buffer: memoryview, count: int, size: int, scale: int) -> NDArray[np.float64]:
    _require(len(buffer) >= count * size)
    whole = [int.from_bytes(buffer[size * place : size * (place + 1)], "little", signed=True) for place in range(count)]
    # Python rounds the quotient of two integers once.
    numbers = [value / 10**scale if scale >= 0 else float(value * 10**-scale) for value in whole]
    return np.array(numbers, np.float64)


def _moments(values: NDArray[Any], unit: str) -> list[Any]:
    """Return times in ISO 8601; those with a time zone are stored in UTC, which is how those without one are read."""
    moments = values.astype("<i8").view(f"<M8[{unit}]")
    if unit == "ns":
        moments = moments.astype("<M8[us]")
    return [None if text == "NaT" else text for text in np.datetime_as_string(moments).tolist()]


def _masked(values: list[Any], present: Mask) -> list[Any]:
    if present is None:
        return values
    return [value if known else None for value, known in zip(values, present.tolist(), strict=True)]


def _known[T](value: T | None) -> T:
    if value is None:
        raise MetadataError("a part of the stream is missing")
    return value


def _require(holds: bool) -> None:
    if not holds:
        raise MetadataError("the stream contradicts itself")
