"""Large bodies in pieces, because a call that parses JSON holds the interpreter, and with it the event loop.

The rows are cut where one ends and the next begins, without parsing: `}, {` or `], [`. Such a place may also be within
a string or a nested list. Then a piece is not valid JSON, and the body must be parsed at once.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from app.errors import TooLargeError

PIECE_BYTES = 65_536

# The list of rows (`instances` and the like, or the `data` of a split form) and the first row's bracket. A quote after
# a backslash is within a string.
_ROWS = re.compile(rb'(?<!\\)"(instances|inputs|dataframe_records|data)"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*([\[{])')
_END = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*(\}[ \t\r\n]*)?\Z")
_MOST_END_BYTES = 64
_CUTS = {
    b"{": re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)"),
    b"[": re.compile(rb"\][ \t\r\n]*,[ \t\r\n]*(?=\[)"),
}


class Opened(NamedTuple):
    """A body whose rows are in pieces. If the head and all pieces are valid JSON, so is the body.

    Args:
        head: The body with an empty list of rows.
        name: Name of that list.
        nested: Whether the list is in an object in the body.
        pieces: JSON lists with the rows, at least one in each.
    """

    head: bytes
    name: str
    nested: bool
    pieces: Iterator[bytes]


def opened(body: bytes) -> Opened | None:
    """Return the rows of a body in pieces, or None if it does not end with its list of rows."""
    start = _ROWS.search(body)
    end = _END.search(body, max(0, len(body) - _MOST_END_BYTES))
    if start is None or end is None or end.start() <= start.start(2):
        return None
    head = body[: start.start(2)] + body[end.start() :]
    pieces = _pieces(body, start.start(2), end.start(), _CUTS[start[2]])
    return Opened(head, start[1].decode(), end[1] is not None, pieces)


def parsed(body: bytes, parse: Callable[[bytes], Any], most: int) -> Any:
    """Return the value of a body, which is parsed in pieces if it is large.

    Args:
        body: JSON.
        parse: Parser, which raises ValueError.
        most: Maximum number of rows.

    Raises:
        ValueError: The body is not valid JSON.
        TooLargeError: It has more rows.
    """
    if len(body) > PIECE_BYTES and (found := opened(body)):
        try:
            document = parse(found.head)
            holder = document
            if found.nested:
                (holder,) = document.values()
            rows: list[Any] = holder[found.name]
            if rows == []:
                for piece in found.pieces:
                    rows += parse(piece)
                    require(len(rows), most)
                return document
        except (ValueError, TypeError, LookupError, AttributeError):
            _require_json(body)
    return parse(body)


def require(count: int, most: int) -> None:
    """Check the number of rows read so far.

    Raises:
        TooLargeError: There are more than `most`.
    """
    if count > most:
        raise TooLargeError(f"The body has more than {most} rows, which is the limit.")


def _require_json(body: bytes) -> None:
    """Check a body that could not be parsed in pieces, without objects for its values, which take most of the time.

    Raises:
        ValueError: It is not valid JSON.
    """
    if b"NaN" in body or b"Infinity" in body:  # some parsers take these
        return
    with suppress(RecursionError):
        msgspec.json.decode(body, type=msgspec.Raw)


def _pieces(body: bytes, start: int, end: int, cut: re.Pattern[bytes]) -> Iterator[bytes]:
    while start < end:
        found = cut.search(body, start + PIECE_BYTES, end)
        yield b"[%b]" % body[start : found.start() + 1 if found else end]
        start = found.end() if found else end
