"""Read what a model file says about itself, and check on the way that it is one whole UBJSON object.

XGBoost trusts its input: a cut file makes it abort the process, crash it, or ask for all memory there is.
The lengths inside the file say where it ends, so a cut is found without building anything.

Source: https://ubjson.org/type-reference/ (draft 12), the part that XGBoost 3.4 reads.
"""

import struct
from collections.abc import Iterator, Set
from typing import Any

_NUMBERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_WIDTHS = {marker: struct.calcsize(form) for marker, form in _NUMBERS.items()} | {b"C": 1}
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}
_MAX_DEPTH = 32  # XGBoost's own files nest seven deep


def read(data: bytes, skip: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the object that `data` has to be.

    Args:
        data: a whole file.
        skip: members with these names are walked through, and left out at any depth.

    Raises:
        ValueError: it is no object, ends early or goes on after its end.
    """
    if data[:1] != b"{":
        raise ValueError("it does not begin as a UBJSON object")
    reader = _Reader(data, skip)
    try:
        found: dict[str, Any] = reader.value(0, True)
    except (struct.error, IndexError):
        raise ValueError(f"it ends early, after {len(data)} bytes") from None
    if reader.at != len(data):
        raise ValueError(f"it goes on for {len(data) - reader.at} bytes after its end")
    return found


class _Reader:
    """A walk from the first byte to the last; what is not kept is passed by its length."""

    def __init__(self, data: bytes, skip: Set[str]) -> None:
        self.at = 0
        self._data = data
        self._skip = frozenset(name.encode() for name in skip)

    def value(self, depth: int, keep: bool) -> Any:
        """Read the value that starts with its marker here."""
        start, marker = self.at, self._take(1)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _WIDTHS:
            return self._number(marker)
        if marker == b"S":
            return self._text().decode("utf-8", "replace") if keep else self._text()
        if marker == b"{":
            return self._object(depth + 1, keep)
        if marker == b"[":
            return self._array(depth + 1, keep)
        raise ValueError(f"byte {start} is no UBJSON")

    def _object(self, depth: int, keep: bool) -> dict[str, Any]:
        start = self.at
        marker, count = self._head(depth)
        if marker:
            raise ValueError(f"byte {start} is no UBJSON")
        found = {}
        for _ in self._members(b"}", count):
            name = self._text()
            kept = keep and name not in self._skip
            value = self.value(depth, kept)
            if kept:
                found[name.decode("utf-8", "replace")] = value
        return found

    def _array(self, depth: int, keep: bool) -> list[Any]:
        start = self.at
        marker, count = self._head(depth)
        if marker:
            if count is None or marker not in _WIDTHS:
                raise ValueError(f"byte {start} is no UBJSON")
            content = self._take(_WIDTHS[marker] * count)
            return list(struct.unpack(f">{count}{_NUMBERS[marker][1]}", content)) if keep and marker != b"C" else []
        items = [self.value(depth, keep) for _ in self._members(b"]", count)]
        return items if keep else []

    def _head(self, depth: int) -> tuple[bytes, int | None]:
        """Return the type and the number of a container's values, where it says them."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"it nests deeper than {_MAX_DEPTH}")
        marker = b""
        if self._data[self.at : self.at + 1] == b"$":
            marker = self._take(2)[1:]
        if self._data[self.at : self.at + 1] == b"#":
            self.at += 1
            return marker, self._length()
        return marker, None

    def _members(self, end: bytes, count: int | None) -> Iterator[int | None]:
        """Yield once per member; without a number, until the container's end, which is passed by."""
        if count is not None:
            yield from range(count)
            return
        while self._data[self.at : self.at + 1] != end:
            yield None
        self.at += 1

    def _text(self) -> bytes:
        return self._take(self._length())

    def _length(self) -> int:
        start, marker = self.at, self._take(1)
        if marker not in _NUMBERS or marker in b"dD":
            raise ValueError(f"byte {start} is no length")
        count = int(self._number(marker))
        if count < 0:
            raise ValueError(f"byte {start} is a negative length")
        return count

    def _number(self, marker: bytes) -> Any:
        content = self._take(_WIDTHS[marker])
        return struct.unpack(_NUMBERS[marker], content)[0] if marker in _NUMBERS else content

    def _take(self, length: int) -> bytes:
        """Pass by so many bytes and return them."""
        end = self.at + length
        if end > len(self._data):
            raise IndexError
        content = self._data[self.at : end]
        self.at = end
        return content
