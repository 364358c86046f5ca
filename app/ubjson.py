"""Check that bytes are one whole UBJSON object.

XGBoost trusts its input: a cut file makes it abort the process, crash it, or ask for all memory there is.
The lengths inside the file say where it ends, so a cut is found without building anything.

Source: https://ubjson.org/type-reference/ (draft 12), the part that XGBoost 3.4 reads.
"""

import struct

_NUMBERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_WIDTHS = {marker: struct.calcsize(form) for marker, form in _NUMBERS.items()} | {b"C": 1}
_EMPTY = (b"Z", b"T", b"F")
_MAX_DEPTH = 32  # XGBoost's own files nest seven deep


def check(data: bytes) -> None:
    """Walk through the object that `data` has to be.

    Raises:
        ValueError: it is none, ends early or goes on after its end.
    """
    if data[:1] != b"{":
        raise ValueError("it does not begin as a UBJSON object")
    try:
        end = _value(data, 0, 0)
    except (struct.error, IndexError):
        raise ValueError(f"it ends early, after {len(data)} bytes") from None
    if end != len(data):
        raise ValueError(f"it goes on for {len(data) - end} bytes after its end")


def _value(data: bytes, at: int, depth: int) -> int:
    """Return where the value that starts with its marker at `at` ends."""
    marker = data[at : at + 1]
    at += 1
    if marker in _WIDTHS:
        return _skip(data, at, _WIDTHS[marker])
    if marker in _EMPTY:
        return at
    if marker == b"S":
        return _text(data, at)
    if marker in (b"[", b"{"):
        return _container(data, at, marker == b"{", depth + 1)
    if not marker:
        raise IndexError
    raise ValueError(f"byte {at - 1} is no UBJSON")


def _container(data: bytes, at: int, is_object: bool, depth: int) -> int:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it nests deeper than {_MAX_DEPTH}")
    width = 0
    if data[at : at + 1] == b"$":
        width = _WIDTHS.get(data[at + 1 : at + 2], 0)
        if not width or is_object or data[at + 2 : at + 3] != b"#":
            raise ValueError(f"byte {at} is no UBJSON")
        at += 2
    if data[at : at + 1] == b"#":
        count, at = _count(data, at + 1)
        if width:
            return _skip(data, at, width * count)
        for _ in range(count):
            at = _value(data, _text(data, at) if is_object else at, depth)
        return at
    end = b"}" if is_object else b"]"
    while data[at : at + 1] != end:
        at = _value(data, _text(data, at) if is_object else at, depth)
    return at + 1


def _text(data: bytes, at: int) -> int:
    length, at = _count(data, at)
    return _skip(data, at, length)


def _count(data: bytes, at: int) -> tuple[int, int]:
    marker = data[at : at + 1]
    if not marker:
        raise IndexError
    if marker not in _WIDTHS or marker in b"CdD":
        raise ValueError(f"byte {at} is no length")
    (count,) = struct.unpack_from(_NUMBERS[marker], data, at + 1)
    if count < 0:
        raise ValueError(f"byte {at} is a negative length")
    return count, at + 1 + _WIDTHS[marker]


def _skip(data: bytes, at: int, length: int) -> int:
    if at + length > len(data):
        raise IndexError
    return at + length
