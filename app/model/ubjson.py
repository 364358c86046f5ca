"""UBJSON parser for model files.

XGBoost trusts its input: a truncated file makes it abort, crash or allocate all memory. The lengths inside the file
determine where it ends, so a truncated file is detected before XGBoost loads it. Only what XGBoost writes is accepted,
so that both parsers read the same from every file.

Source: https://ubjson.org/type-reference/ (draft 12), the part that XGBoost 3.4 writes.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_DTYPES = {b"i": "i1", b"U": "u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}
_MAX_DEPTH = 32  # XGBoost's own files nest seven deep


def read(data: bytes) -> dict[str, Any]:
    """Parse an object. An array with a type becomes a NumPy array that shares the memory of the data.

    Raises:
        ValueError: The content is not an object, is truncated, or is followed by more bytes.
    """
    if data[:1] != b"{":
        raise ValueError("it does not start with a UBJSON object")
    reader = _Reader(data)
    try:
        found: dict[str, Any] = reader.value(0)
    except (struct.error, IndexError):
        raise ValueError(f"it is truncated after {len(data)} bytes") from None
    if reader.at != len(data):
        raise ValueError(f"it has {len(data) - reader.at} bytes after its end")
    return found


class _Reader:
    """A parser with a position in the data."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def value(self, depth: int) -> Any:
        """Parse the value at the current position."""
        start, marker = self.at, self._take(1)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _NUMBERS:
            return self._number(marker)
        if marker == b"S":
            return self._text()
        if depth >= _MAX_DEPTH:
            raise ValueError(f"it nests deeper than {_MAX_DEPTH}")
        if marker == b"{":
            return self._object(depth + 1)
        if marker == b"[":
            return self._array(depth + 1)
        raise ValueError(f"byte {start} is not valid UBJSON")

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in self._members(b"}"):
            start, name = self.at, self._text()
            if name in found:  # XGBoost would use the first value in UBJSON, but the last one in JSON
                raise ValueError(f"byte {start} is a second member of the same name")
            found[name] = self.value(depth)
        return found

    def _array(self, depth: int) -> Any:
        start, head = self.at, self._data[self.at : self.at + 1]
        if head == b"$":
            marker = self._take(3)[1:2]
            if marker not in _DTYPES or self._data[self.at - 1 : self.at] != b"#":
                raise ValueError(f"byte {start} is not valid UBJSON")
            return self._numbers(np.dtype(_DTYPES[marker]), self._length())
        if head == b"#":
            self.at += 1
            return [self.value(depth) for _ in range(self._length())]
        return [self.value(depth) for _ in self._members(b"]")]

    def _numbers(self, kind: np.dtype[Any], count: int) -> NDArray[Any]:
        start = self.at
        self.at += kind.itemsize * count
        if self.at > len(self._data):
            raise IndexError
        return np.frombuffer(self._data, dtype=kind, count=count, offset=start)

    def _members(self, end: bytes) -> Iterator[None]:
        """Yield once per member until the end of the container, which is skipped."""
        while self._data[self.at : self.at + 1] != end:
            yield
        self.at += 1

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8", "replace")

    def _length(self) -> int:
        start = self.at
        if self._take(1) != b"L":
            raise ValueError(f"byte {start} is not a length")
        count = int(self._number(b"L"))
        if count < 0:
            raise ValueError(f"byte {start} is a negative length")
        return count

    def _number(self, marker: bytes) -> Any:
        form = _NUMBERS[marker]
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, length: int) -> bytes:
        """Return the next `length` bytes and advance."""
        end = self.at + length
        if end > len(self._data):
            raise IndexError
        content = self._data[self.at : end]
        self.at = end
        return content
