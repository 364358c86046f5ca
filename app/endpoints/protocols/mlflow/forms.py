"""Request formats of MLflow's protocol, parsed into tables whose cells the signature validates."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.errors import CellError, InvalidInputError, NotJsonError, TooLargeError
from app.model import pieces
from app.model.booster import Matrix
from app.model.columns import INTEGER_BITS, REALS, Column, column_name, kind
from app.model.typed import Typed

# Strings that pandas.read_csv parses as missing values.
_MISSING = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Sheet:
    """Columns and rows of a request, before validation."""

    columns: list[Any]
    rows: list[Any]

    def only(self, names: frozenset[str]) -> "Sheet":
        """Return the table without unknown columns; rows of a wrong length stay, and are rejected later."""
        places = [i for i, name in enumerate(self.columns) if not isinstance(name, str) or name in names]
        width = len(self.columns)
        if len(places) == width or not all(isinstance(row, list) and len(row) == width for row in self.rows):
            return self
        return Sheet([self.columns[i] for i in places], [[row[i] for i in places] for row in self.rows])


def from_split(data: Any) -> Sheet:
    """Parse `{"columns": […], "data": [[…]]}` and ignore an index."""
    if not isinstance(data, dict) or not isinstance(data.get("columns"), list):
        raise InvalidInputError('dataframe_split must be {"columns": […], "data": [[…]]}.')
    if not isinstance(rows := data.get("data"), list):
        raise InvalidInputError("dataframe_split must contain its rows in the list data.")
    return Sheet([column_name(name) for name in data["columns"]], rows)


def from_records(data: Any, form: str, names: Sequence[str]) -> Sheet:
    """Parse `[{column: value}]`, where all records must have the same columns of the model.

    Args:
        data: Value of the form in the request.
        form: Name of the form.
        names: Columns of the model.

    Raises:
        InvalidInputError: The data is malformed, or a column is missing in a record.
    """
    if not isinstance(data, list):
        raise InvalidInputError(f"{form} must be a list of records, not {kind(data)}.")
    for number, record in enumerate(data):
        if not isinstance(record, dict):
            problem = f"must be an object with a value per column, not {kind(record)}"
            raise InvalidInputError("The input has 1 problem.", [CellError(number, None, problem)], 1)
    columns = [name for name in names if any(name in record for record in data)]
    for number, record in enumerate(data):
        for name in columns:
            if name not in record:
                raise InvalidInputError("The input has 1 problem.", [CellError(number, name[:200], "is missing")], 1)
    return Sheet(columns, [[record[name] for name in columns] for record in data])


def from_columns(data: dict[str, Any], form: str) -> Sheet:
    """Parse `{column: [values]}`, or one row as `{column: value}`."""
    values = list(data.values())
    if values and not any(isinstance(each, list) for each in values):
        return Sheet(list(data), [values])
    for name, each in data.items():
        if not isinstance(each, list):
            problem = f"must be a list of values, like the other columns of {form}"
            raise InvalidInputError("The input has 1 problem.", [CellError(None, name[:200], problem)], 1)
    if len(lengths := set(map(len, values))) > 1:
        raise InvalidInputError(f"The columns of {form} have different lengths: {sorted(lengths)[:9]}.")
    return Sheet(list(data), [list(row) for row in zip(*values, strict=True)])


def from_csv(content: bytes, columns: Sequence[Column], most: int) -> Sheet:
    """Parse CSV as pandas writes it: column names in the first line, and cells by the types of their columns.

    Args:
        content: CSV in UTF-8.
        columns: Columns of the model; cells of other columns stay text.
        most: Maximum number of rows.

    Raises:
        NotJsonError: The content is not valid CSV.
        InvalidInputError: The number of cells in a line differs from that of the header.
        TooLargeError: There are too many rows.
    """
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = next(lines, [])
        known = {column.name: column for column in columns}
        readers = [known.get(name) for name in header]
        rows: list[Any] = []
        for line in lines:
            if not line:
                continue
            if len(rows) == most:
                raise TooLargeError(f"The body has more than {most} rows, which is the limit.")
            if len(line) != len(header):
                problem = f"has {len(line)} values for {len(header)} columns"
                raise InvalidInputError("The input has 1 problem.", [CellError(len(rows), None, problem)], 1)
            rows.append([_cell(text, column) for text, column in zip(line, readers, strict=True)])
    except (UnicodeDecodeError, csv.Error):
        raise NotJsonError("The body is not valid CSV in UTF-8.") from None
    return Sheet(header, rows)


def numbers_of_csv(content: bytes, typed: Typed) -> Matrix | None:
    """Return the rows of CSV with only numbers for all columns, in any order, or None for any other content."""
    head, _, lines = content.partition(b"\n")
    if any(mark in content for mark in (b'"', b"[", b"]")):
        return None
    try:
        columns = head.decode("ascii").rstrip("\r").split(",")
    except UnicodeDecodeError:
        return None
    parts = _parts(lines.rstrip(b"\r\n"))
    return typed.rows((b"[[%b]]" % part.replace(b"\n", b"],[") for part in parts), columns)


def _parts(lines: bytes) -> Iterator[bytes]:
    """Yield lines together, up to about `PIECE_BYTES`."""
    start = 0
    while start <= len(lines):
        end = lines.find(b"\n", start + pieces.PIECE_BYTES)
        end = len(lines) if end < 0 else end
        yield lines[start:end]
        start = end + 1


def without_nan(value: Any) -> Any:
    """Return a JSON value with NaN replaced by null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return {key: without_nan(each) for key, each in value.items()} if isinstance(value, dict) else value


def _cell(text: str, column: Column | None) -> Any:
    """Return a cell as the JSON value of its column's type. Text that does not fit stays text and is rejected later."""
    if column is None or text in column.categories:
        return text
    if text in _MISSING:
        return None
    if column.type == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    whole = column.type in INTEGER_BITS
    if (whole or column.type in REALS) and "_" not in text:  # Python ignores underscores in numbers
        with suppress(ValueError):
            return int(text) if whole and _WHOLE.fullmatch(text) else float(text)
    return text
