"""Tables of FlatBuffers, the format of the metadata in Arrow's streams.

Every position is checked against the data, so that hostile metadata can only raise an error.

Source: flatbuffers.dev/internals.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any


class MetadataError(ValueError):
    """Metadata that are not valid FlatBuffers."""


class Table:
    """One table.

    Args:
        data: The FlatBuffer.
        at: Position of the table.
    """

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._unpack("<i", at)
        self._end = self._unpack("<H", self._vtable)

    @classmethod
    def root(cls, data: memoryview) -> "Table":
        """Return the root table of a FlatBuffer."""
        return cls(data, Table._read(data, "<I", 0))

    def number(self, slot: int, form: str, default: int = 0) -> int:
        """Return a number, by its form for `struct`."""
        place = self._place(slot)
        return self._unpack(form, place) if place else default

    def table(self, slot: int) -> "Table | None":
        """Return a table, or None if it is absent."""
        place = self._place(slot)
        return Table(self._data, self._target(place)) if place else None

    def text(self, slot: int) -> str:
        """Return a string, "" if it is absent."""
        start, size = self._vector(slot, 1)
        try:
            return str(self._data[start : start + size], "utf-8")
        except UnicodeDecodeError:
            raise MetadataError("a string is not valid UTF-8") from None

    def tables(self, slot: int) -> "list[Table]":
        """Return a vector of tables."""
        start, size = self._vector(slot, 4)
        return [Table(self._data, self._target(start + 4 * place)) for place in range(size)]

    def structs(self, slot: int, form: str) -> list[tuple[int, ...]]:
        """Return a vector of structs, by their form for `struct`."""
        width = struct.calcsize(form)
        start, size = self._vector(slot, width)
        return list(struct.iter_unpack(form, self._data[start : start + width * size]))

    def _place(self, slot: int) -> int:
        """Return the position of a field, or 0 if it is absent."""
        entry = 4 + 2 * slot
        offset = self._unpack("<H", self._vtable + entry) if entry + 2 <= self._end else 0
        return self._at + offset if offset else 0

    def _target(self, place: int) -> int:
        return place + self._unpack("<I", place)

    def _vector(self, slot: int, width: int) -> tuple[int, int]:
        """Return the position of the first element of a vector, and the number of elements."""
        if not (place := self._place(slot)):
            return 0, 0
        start = self._target(place)
        size = self._unpack("<I", start)
        if start + 4 + width * size > len(self._data):
            raise MetadataError("a vector ends after the metadata")
        return start + 4, size

    def _unpack(self, form: str, at: int) -> int:
        return self._read(self._data, form, at)

    @staticmethod
    def _read(data: memoryview, form: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(form) > len(data):
            raise MetadataError("an offset points outside the metadata")
        found: int = struct.unpack_from(form, data, at)[0]
        return found


# A field of a table to write: its form and number, or what writes the object to which it refers. None: absent.
Part = Callable[["Builder"], int]
Field = tuple[str, int] | Part | None


class Builder:
    """A FlatBuffer that is written from its root on."""

    def __init__(self, root: Part) -> None:
        self._data = bytearray(4)
        self._patch(0, root)

    def content(self) -> bytes:
        """Return the FlatBuffer, padded to eight bytes."""
        self._align(8)
        return bytes(self._data)

    def write_table(self, fields: Sequence[Field]) -> int:
        """Write a table, then what it refers to, and return its position."""
        places: list[int] = []
        size = 4  # of the offset of the vtable
        for field in fields:
            if field is None:
                places.append(0)
                continue
            width = struct.calcsize(field[0]) if isinstance(field, tuple) else 4
            size += -size % width
            places.append(size)
            size += width
        vtable = struct.pack(f"<HH{len(places)}H", 4 + 2 * len(places), size, *places)
        self._align(8)
        self._data += bytes(-len(vtable) % 8) + vtable
        at = len(self._data)
        self._data += struct.pack("<i", len(vtable)) + bytes(size - 4)
        for field, place in zip(fields, places, strict=True):
            if isinstance(field, tuple):
                struct.pack_into(field[0], self._data, at + place, field[1])
        for field, place in zip(fields, places, strict=True):
            if field is not None and not isinstance(field, tuple):
                self._patch(at + place, field)
        return at

    def write_vector(self, count: int, elements: bytes, alignment: int, end: bytes = b"") -> int:
        """Write a vector of numbers or structs, and return its position."""
        self._data += bytes(-(len(self._data) + 4) % max(alignment, 4))
        at = len(self._data)
        self._data += struct.pack("<I", count) + elements + end
        return at

    def write_references(self, parts: Sequence[Part]) -> int:
        """Write a vector of references, then what they refer to, and return its position."""
        at = self.write_vector(len(parts), bytes(4 * len(parts)), 4)
        for place, part in enumerate(parts):
            self._patch(at + 4 + 4 * place, part)
        return at

    def _patch(self, place: int, part: Part) -> None:
        struct.pack_into("<I", self._data, place, part(self) - place)

    def _align(self, size: int) -> None:
        self._data += bytes(-len(self._data) % size)


def table(*fields: Field) -> Part:
    """Return a table to write."""
    return lambda builder: builder.write_table(fields)


def text(value: str) -> Part:
    """Return a string to write."""
    content = value.encode("utf-8", "replace")
    return lambda builder: builder.write_vector(len(content), content, 4, b"\0")


def tables(parts: Sequence[Part]) -> Part:
    """Return a vector of tables to write."""
    return lambda builder: builder.write_references(parts)


def structs(form: str, values: Sequence[tuple[Any, ...]]) -> Part:
    """Return a vector of structs to write."""
    elements = b"".join(struct.pack(form, *each) for each in values)
    return lambda builder: builder.write_vector(len(values), elements, 8)
