"""The notation of a CSV file: delimiter, numbers, encoding and header. It is detected where it is unambiguous."""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from training.errors import InputError

SAMPLE_BYTES = 1 << 18
UTF_8 = "utf-8"
_DELIMITERS = (",", ";", "\t", "|")
_MOST_RECORDS = 1000
_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_NAMES = {"\t": "tab", " ": "blank"}

Delimiter = Literal["auto", ",", ";", "\t", "|", "tab"]
Decimal = Literal["auto", ".", ","]
Thousands = Literal["auto", "none", ",", ".", "'", " "]


def known_encoding(name: str) -> str:
    """Return Python's name of an encoding, or auto.

    Raises:
        ValueError: Python does not know the encoding.
    """
    try:
        return name if name == "auto" else codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"{name} is not an encoding that Python knows, such as utf-8, latin-1 or cp1252") from None


Encoding = Annotated[str, AfterValidator(known_encoding)]


class CsvFormat(BaseModel):
    """How a CSV file is written. auto detects a part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Delimiter = Field(default="auto", description="Character between two columns.")
    decimal: Decimal = Field(default="auto", description="Character before the decimals of a number.")
    thousands: Thousands = Field(default="auto", description="Character between groups of three digits.")
    encoding: Encoding = Field(default="auto", description="Name of the encoding in Python, such as latin-1.")

    @field_validator("delimiter")
    @classmethod
    def _tab(cls, value: str) -> str:
        return "\t" if value == "tab" else value


AUTO = CsvFormat()
# How files were read before the manifest recorded it.
PLAIN = CsvFormat(delimiter=",", decimal=".", thousands="none", encoding=UTF_8)


@dataclass(frozen=True)
class Layout:
    """The detected format of a file and its header.

    Args:
        format: Format without auto.
        names: Names of the columns, if the header lacks that of the first one, as R writes it. Otherwise empty.
        unnamed: Number of columns without a name before the first name. They are the index of a data frame.
    """

    format: CsvFormat
    names: tuple[str, ...] = ()
    unnamed: int = 0

    def sentence(self) -> str:
        """Return what was understood, in words."""
        known = self.format
        thousands = "" if known.thousands == "none" else f", thousands {_shown(known.thousands)}"
        index = {0: "", 1: "; its first column has no name and is left out as an index"}
        more = f"; its first {self.unnamed} columns have no name and are left out as an index"
        return (
            f"CSV in {known.encoding}, delimiter {_shown(known.delimiter)}, decimal {_shown(known.decimal)}{thousands}"
            f"{index.get(self.unnamed, more)}"
        )


PLAIN_LAYOUT = Layout(PLAIN)


def detect(sample: bytes, wanted: CsvFormat, null_words: Sequence[str], *, whole: bool) -> Layout:
    """Return the layout of a file.

    Args:
        sample: The first bytes of the file.
        wanted: Format from the options.
        null_words: Words that stand for a missing value.
        whole: The sample is the whole file. Otherwise its last line may be incomplete.

    Raises:
        InputError: The delimiter is ambiguous.
    """
    encoding = wanted.encoding
    if encoding == "auto":
        encoding = next((name for mark, name in _ORDER_MARKS.items() if sample.startswith(mark)), UTF_8)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample).removeprefix("\ufeff")
    delimiter, records = _delimited(text, wanted.delimiter, whole=whole)
    header, rows = (records[0], records[1:]) if records else ([], [])
    short = bool(rows) and all(len(row) == len(header) + 1 for row in rows)
    names = ("", *header) if short else ()
    unnamed = next((i for i, name in enumerate(names or header) if name), 0)
    cells = [cell for row in rows for cell in row if cell not in null_words]
    decimal, thousands = _numbers(cells, wanted)
    known = CsvFormat.model_validate(
        {"delimiter": delimiter, "decimal": decimal, "thousands": thousands, "encoding": encoding}
    )
    return Layout(known, names, unnamed)


def plain_numbers(table: pa.Table, known: CsvFormat) -> pa.Table:
    """Return the table with numbers in place of text that consists of numbers with thousands separators."""
    if known.thousands == "none":
        return table
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and (cells := _plain_numbers(table.column(i), known)) is not None:
            table = table.set_column(i, field.name, cells)
    return table


def check_notation(table: pa.Table, known: CsvFormat, exempt: Collection[str]) -> None:
    """Refuse a cell in a different notation, because it would turn each number of its column into a category.

    Args:
        table: Table whose columns of numbers are numbers.
        known: Format of the file.
        exempt: Columns whose text is not numbers.

    Raises:
        InputError: The message contains the first text.
    """
    pattern = f"^{_number(known).pattern}$"
    for name in table.column_names:
        cells = table.column(name)
        if (known.decimal, known.thousands) == (".", "none") or name in exempt or not pa.types.is_string(cells.type):
            continue
        odd = pc.invert(pc.match_substring_regex(cells, pattern)).fill_null(False).to_numpy()
        if odd.any() and 2 * int(odd.sum()) <= len(cells) - cells.null_count:
            row = int(odd.argmax())
            text = cells[row].as_py()[:40]
            raise InputError(
                f"Row {row + 1}, column {name}: {text!r} is text in a column of numbers; correct it, or make the "
                "column --categorical."
            )


def plain_text(cells: pa.ChunkedArray, known: CsvFormat) -> pa.ChunkedArray:
    """Return cells of numbers in Python's notation. A cell that is not a number in this format stays text."""
    if (known.decimal, known.thousands) == (".", "none"):
        return cells
    number = _number(known)
    return pa.chunked_array(
        [[None if text is None else _in_python(text, number, known) for text in cells.to_pylist()]], pa.string()
    )


def _delimited(text: str, wanted: str, *, whole: bool) -> tuple[str, list[list[str]]]:
    """Return the delimiter, and the header and the first rows."""
    if wanted != "auto":
        return wanted, _records(text, wanted, whole=whole)
    found = {each: _records(text, each, whole=whole) for each in _DELIMITERS}
    fits = [each for each, records in found.items() if _is_table(records)]
    if len(fits) > 1:
        raise InputError(
            f"--csv-delimiter (TRAINING_CSV_DELIMITER): both {' and '.join(map(_shown, fits))} divide each line into "
            "the same number of columns; choose one."
        )
    delimiter = fits[0] if fits else ","
    return delimiter, found[delimiter]


def _records(text: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    """Return the fields of the first complete lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        records = [each for each in islice(reader, _MOST_RECORDS) if each]
    except csv.Error:
        return []
    return records if whole or len(records) == _MOST_RECORDS else records[:-1]


def _is_table(records: Sequence[Sequence[str]]) -> bool:
    """Return whether the header has several columns and all rows have as many, or one more for an index."""
    if len(records) < 2 or len(records[0]) < 2:
        return False
    return {len(row) for row in records[1:]} in ({len(records[0])}, {len(records[0]) + 1})


def _numbers(cells: Iterable[str], wanted: CsvFormat) -> tuple[str, str]:
    """Return the separators of decimals and thousands.

    A number such as 1,5 or 1.234,5 decides. One such as 1,234 does not, because it has two readings.
    """
    if wanted.decimal != "auto" and wanted.thousands != "auto":
        return wanted.decimal, wanted.thousands
    readings: set[tuple[str, str]] = set()
    for cell in cells:
        for decimal, other in ((",", "."), (".", ",")):
            if re.fullmatch(rf"[-+]?\d{{1,3}}(\{other}\d{{3}})+\{decimal}\d+", cell):
                readings.add((decimal, other))
            elif re.fullmatch(rf"[-+]?\d+\{decimal}\d+", cell) and not re.fullmatch(
                rf"[-+]?\d{{1,3}}\{decimal}\d{{3}}", cell
            ):
                readings.add((decimal, "none"))
    decimals = {decimal for decimal, _ in readings}
    point: str = wanted.decimal
    group: str = wanted.thousands
    if point == "auto":
        point = next(iter(decimals)) if len(decimals) == 1 else "."
    if group == "auto":
        found = {each for of, each in readings if of == point and each != "none"}
        group = next(iter(found)) if found and len(decimals) == 1 else "none"
    return point, group


def _plain_numbers(cells: pa.ChunkedArray, known: CsvFormat) -> pa.ChunkedArray | None:
    """Return the numbers of a column, or None if a cell is not a number."""
    values = cells.drop_null()
    if not len(values) or not pc.all(pc.match_substring_regex(values, f"^{_number(known).pattern}$")).as_py():
        return None
    text = pc.replace_substring(cells, known.thousands, "")
    text = pc.replace_substring(text, known.decimal, ".")
    whole = not pc.any(pc.match_substring_regex(text, "[.eE]")).as_py()
    try:
        return text.cast(pa.int64() if whole else pa.float64())
    except pa.ArrowInvalid:  # more than 64 bits
        return text.cast(pa.float64())


def _number(known: CsvFormat) -> re.Pattern[str]:
    """Return the pattern of a number. A separator of thousands must stand between groups of three digits."""
    digits = r"\d+"
    if known.thousands != "none":
        digits = rf"(?:\d{{1,3}}(?:{re.escape(known.thousands)}\d{{3}})+|\d+)"
    return re.compile(rf"[-+]?{digits}(?:{re.escape(known.decimal)}\d+)?(?:[eE][-+]?\d+)?")


def _in_python(text: str, number: re.Pattern[str], known: CsvFormat) -> str:
    if number.fullmatch(text.strip()):
        return text.strip().replace(known.thousands, "").replace(known.decimal, ".")  # no number contains "none"
    try:
        float(text)
    except ValueError:
        return text
    return text if not any(each.isdigit() for each in text) else repr(text)  # quoted, it is not a number


def _shown(character: str) -> str:
    return _NAMES.get(character, f"'{character}'")
