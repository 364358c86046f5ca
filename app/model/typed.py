"""Conversion of JSON straight into the matrix of one signature, without checking cell by cell.

Arrays of numbers are read into a buffer without a Python object for each. Records, missing values and categories are
read into objects whose fields have the types of the columns. All other input, valid or not, gives None:
app.model.signature then checks each cell and reports the problems.
"""

import math
import re
import threading
from collections.abc import Callable, Iterable, Sequence, Sized
from operator import itemgetter
from typing import Any, cast

import msgspec
import numpy as np
import simdjson
from numpy.typing import NDArray

from app.model import pieces
from app.model.booster import Matrix
from app.model.columns import INTEGER_BITS, REALS, WIDE, Column
from app.model.dates import seconds
from app.model.signature import Signature

SPLIT = (["columns", "data"], ["columns", "data", "index"])  # pandas writes its index, too
_OF_LISTS = frozenset({"dataframe_split", *SPLIT[1]})  # members whose rows are lists, never records
_OF_RECORDS = frozenset({"dataframe_records"})  # and the other way round
# Columns up to which a record becomes an object. An object's fields are searched in their order, which takes quadratic
# time if a client sends them in a different one.
MOST_FIELDS = 64
LARGEST_CODE = 2**53  # integers up to it are exact as floats

# The first member of a body, and how its value starts. A byte order mark, which simdjson accepts, does not match.
_START = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"([a-z_]+)"[ \t\r\n]*:[ \t\r\n]*([\[{])[ \t\r\n]*([\[{]?)')
_FAILURES = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)  # RuntimeError: simdjson's own errors


class Typed:
    """Conversions for one signature. Thread-safe.

    Args:
        signature: Signature of the model.
        most: Number of rows beyond which a large body is refused before it is read to its end.
    """

    def __init__(self, signature: Signature, most: int) -> None:
        self._signature = signature
        self._most = most
        self._names = list(signature.names)
        self._known = frozenset(self._names)
        self._numbers_of = [_conversion(column) for column in signature.columns]
        self._parsers = threading.local()
        self._decoders: dict[tuple[str, str, bool], msgspec.json.Decoder[Any]] = {}
        # Subclasses have matrices of Python objects.
        self._possible = type(signature) is Signature and None not in map(_kind, signature.columns)
        self._wide = len(self._names) > MOST_FIELDS
        self._values = itemgetter(*self._names) if len(self._names) > 1 else None

    def read(self, body: bytes, members: frozenset[str]) -> Matrix | None:
        """Return the rows of a body that has one of the known forms and no other content.

        Args:
            body: JSON: an object with `columns` and `data`, or with one member whose value is a list of records, a list
                of lists, an object of columns, or an object with `columns` and `data`.
            members: Members that this body may start with.

        Raises:
            TooLargeError: The body is large and has too many rows.
        """
        start = _START.match(body) if self._possible else None
        if start is None or (member := start[1].decode()) not in members:
            return None
        try:
            if len(body) > pieces.PIECE_BYTES and (found := pieces.opened(body)):
                return self._in_pieces(found, member)
            if member in SPLIT[1]:
                return self._split(body, "")
            if member == "dataframe_split":
                return self._split(body, member)
            if start[2] == b"{":
                return self._columns(body, member)
            if start[3] == b"{":
                return self._records(body, member)
            return None if member in _OF_RECORDS else self._lists(body, member)
        except _FAILURES:
            return None

    def rows(self, texts: Iterable[bytes], columns: Sequence[str]) -> Matrix | None:
        """Return the rows of several JSON lists of lists of numbers.

        Args:
            texts: The lists.
            columns: The columns of their lists, in any order.

        Raises:
            TooLargeError: There are too many rows.
        """
        if not self._signature.numeric:
            return None
        try:
            return self._joined(self._table(columns, self._numbers(text, len(columns))) for text in texts)
        except _FAILURES:
            return None

    def parse(self, text: bytes) -> Any:
        """Return the document, of which no part may live when this thread parses the next one.

        Raises:
            ValueError: It is not JSON.
            RuntimeError: A part of the last one lives.
        """
        if (parser := getattr(self._parsers, "parser", None)) is None:
            parser = self._parsers.parser = simdjson.Parser()
        return parser.parse(text)

    def _in_pieces(self, found: pieces.Opened, member: str) -> Matrix | None:
        split = member == "dataframe_split" if found.nested else member in SPLIT[1]
        if split != (found.name == "data") or found.nested > split:
            return None
        head = self.parse(found.head)
        if found.nested:
            head = head[member] if list(head.keys()) == [member] else None
        expected = SPLIT if split else ([member],)
        if not isinstance(head, simdjson.Object) or sorted(head.keys()) not in expected:
            return None
        names: list[Any] = self._names
        if split:
            if not isinstance(columns := head["columns"], simdjson.Array):
                return None
            names = columns.as_list()
            del columns
        del head  # before this thread parses again
        return self._joined(self._piece(piece, names, member) for piece in found.pieces)

    def _piece(self, text: bytes, names: Sequence[Any], member: str) -> Matrix | None:
        """Return the rows of a JSON list of records, or of lists with these columns."""
        if text.startswith(b"[{"):
            if member in _OF_LISTS:
                return None
            return self._of_records(self._decoder("piece of records", "", text).decode(text))
        if member in _OF_RECORDS:
            return None
        if self._signature.numeric and b"null" not in text:
            return self._table(names, self._numbers(text, len(names)))
        return self._typed(self._decoder("piece of lists", "", text).decode(text)) if names == self._names else None

    def _joined(self, parts: Iterable[Matrix | None]) -> Matrix | None:
        found, count = [], 0
        for part in parts:
            if part is None:
                return None
            found.append(part)
            pieces.require(count := count + len(part), self._most)
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _numbers(self, text: bytes, width: int) -> NDArray[np.float64] | None:
        return _numbers(self.parse(text), width, text.count(b"[") - 1)

    def _split(self, body: bytes, member: str) -> Matrix | None:
        if not self._signature.numeric or b"null" in body:
            found = self._decoder("split", member, body).decode(body)
            found = getattr(found, member) if member else found
            return self._typed(found.data) if found.columns == self._names else None
        document = self.parse(body)
        if member:
            document = document[member] if list(document.keys()) == [member] else None
        if not isinstance(document, simdjson.Object) or (keys := sorted(document.keys())) not in SPLIT:
            return None
        columns, lists = document["columns"], len(keys) - 1  # in addition to the rows
        if not isinstance(columns, simdjson.Array):
            return None
        names = columns.as_list()
        return self._table(names, _numbers(document["data"], len(names), body.count(b"[") - 1 - lists))

    def _records(self, body: bytes, member: str) -> Matrix | None:
        return self._of_records(getattr(self._decoder("records", member, body).decode(body), member))

    def _of_records(self, records: list[Any]) -> Matrix | None:
        if not self._wide:
            return self._typed(list(map(msgspec.structs.astuple, records)))
        if set(map(len, records)) != {len(self._names)} or self._values is None:
            return None
        return self._typed(list(map(self._values, records)))

    def _lists(self, body: bytes, member: str) -> Matrix | None:
        if not self._signature.numeric or b"null" in body:
            return self._typed(getattr(self._decoder("lists", member, body).decode(body), member))
        document = self.parse(body)
        if list(document.keys()) != [member]:
            return None
        return self._table(self._names, _numbers(document[member], len(self._names), body.count(b"[") - 1))

    def _columns(self, body: bytes, member: str) -> Matrix | None:
        document = self.parse(body) if self._signature.numeric else None
        if document is None or list(document.keys()) != [member]:
            return None
        columns = document[member]
        names = list(columns.keys())
        if len(names) != body.count(b"["):  # each value is a list without lists in it
            return None
        numbers = [np.frombuffer(columns[name].as_buffer(of_type="d")) for name in names]
        return self._table(names, np.column_stack(numbers))

    def _table(self, names: Sequence[Any], wide: NDArray[np.float64] | None) -> Matrix | None:
        """Return numbers in the order of the signature, if they are those of exactly its columns."""
        if wide is None or not wide.size:
            return None
        if names != self._names:
            if len(names) != len(self._names) or self._known != set(names):
                return None
            place = {name: number for number, name in enumerate(names)}
            wide = wide[:, [place[name] for name in self._names]]
        return self._signature.from_numbers(wide)

    def _typed(self, rows: list[Any]) -> Matrix | None:
        """Return rows whose cells have the types of the columns."""
        if not rows:
            return None
        if self._signature.numeric:
            return self._signature.from_numbers(np.array(rows, np.float64))  # None becomes NaN
        columns = [
            np.array(list(map(number, values)) if number else values, np.float64)
            for number, values in zip(self._numbers_of, zip(*rows, strict=True), strict=True)
        ]
        return self._signature.from_numbers(np.column_stack(columns))

    def _decoder(self, form: str, member: str, body: bytes) -> "msgspec.json.Decoder[Any]":
        """Return the decoder of a form; it is faster without missing values."""
        key = (form, member, b"null" in body)
        if key not in self._decoders:
            self._decoders[key] = self._new_decoder(*key)
        return self._decoders[key]

    def _new_decoder(self, form: str, member: str, missing: bool) -> "msgspec.json.Decoder[Any]":
        kinds: list[Any] = [_kind(column, missing) for column in self._signature.columns]
        options: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
        if "records" in form and self._wide:
            if not self._signature.numeric:
                raise ValueError("records with this many columns of several types have no typed form")
            inner: Any = list[dict[str, float | None if missing else float]]  # type: ignore[misc]
        elif "records" in form:
            names = [f"column{place}" for place in range(len(kinds))]
            rename = dict(zip(names, self._names, strict=True))
            record = msgspec.defstruct("Record", list(zip(names, kinds, strict=True)), rename=rename, **options)
            inner = list[record]  # type: ignore[valid-type]
        else:
            inner = list[tuple[*kinds]]  # type: ignore[valid-type]
        if form.startswith("piece"):
            return msgspec.json.Decoder(inner)
        if form == "split":
            members: Any = [("columns", list[str]), ("data", inner), ("index", list[Any], [])]
            inner = msgspec.defstruct("Split", members, forbid_unknown_fields=True)
            if not member:
                return msgspec.json.Decoder(inner)
        return msgspec.json.Decoder(msgspec.defstruct("Body", [(member, inner)], **options))


def _kind(column: Column, missing: bool = True) -> Any:
    """Return the type of a column's cells in JSON, or None if its cells need checks of their own."""
    if column.shape or column.dtype not in WIDE:
        return None
    kind: Any = None
    if column.categories:
        if all(isinstance(each, str) for each in column.categories):
            kind = str
        elif all(isinstance(each, int) and abs(each) < LARGEST_CODE for each in column.categories):
            kind = float
    elif column.type in REALS or (column.type in INTEGER_BITS and column.required):
        kind = float
    elif column.type == "boolean":
        kind = bool
    elif column.parts:
        kind = str
    nullable = missing and column.nullable
    return kind | None if kind and nullable else kind


def _conversion(column: Column) -> Callable[[Any], float] | None:
    """Return the function that makes a number of a category or of a date, or None for numbers."""
    if column.parts:
        return lambda text: math.nan if text is None else seconds(text)
    if not column.categories:
        return None
    codes: dict[Any, float] = {
        float(each) if isinstance(each, int) else each: code for code, each in enumerate(column.categories)
    }
    return (codes | {None: math.nan}).__getitem__


def _numbers(rows: Any, width: int, lists: int) -> NDArray[np.float64] | None:
    """Return the numbers of a list of lists, shape (rows, width), or None if it is a different one.

    Args:
        rows: The list, as simdjson has parsed it.
        width: Length of each list in it.
        lists: Number of lists in it, at any depth: the numbers are read flat, so this shows that they are.
    """
    if not isinstance(rows, simdjson.Array) or len(rows) != lists:
        return None
    if set(map(len, cast(Iterable[Sized], rows))) != {width}:  # strings, which have a length, fail below
        return None
    return np.frombuffer(rows.as_buffer(of_type="d")).reshape(-1, width)
