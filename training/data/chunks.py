"""Data of a model's columns in chunks of a fixed number of rows, read in bounded memory and from any row on.

Rows are counted from 0 through all files in the order of their names. The number of a chunk therefore identifies its
rows, independent of the batches and row groups of the files.
"""

import logging
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from app.model.columns import INTEGER_BITS, REALS, Column
from training.data.csv_format import AUTO, CsvFormat, Layout, detect, plain_text
from training.data.csv_parquet_reader import CSV, PARQUET, CsvOptions, TableFile
from training.data.null_words import NULL_WORDS
from training.data.storage import Place, failure
from training.errors import InputError

_READ_BYTES = 1 << 20  # block of a Parquet column

log = logging.getLogger("training")


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows. `text` is true if the cells of a CSV file do not have the types of their columns."""

    first_row: int
    table: pa.Table
    text: bool


class ChunkedData:
    """The rows of all files at a place.

    Args:
        place: A file, or a folder of files of one format.
        columns: Columns of the model. Other columns are read only if `more` names them.
        more: Columns to copy.
        null_words: Words that stand for a missing value. None: `NULL_WORDS` in CSV files only, for models that do not
            record them. `Chunk.table` contains the words in columns of text, because such a column may be copied.
        wanted: Format of CSV files. The first file decides what is detected.

    Raises:
        InputError: There are no files.
        TrainingError: The place is unreachable.
    """

    def __init__(
        self,
        place: Place,
        columns: Sequence[Column],
        more: Sequence[str],
        null_words: tuple[str, ...] | None = None,
        wanted: CsvFormat = AUTO,
    ) -> None:
        self.place = place
        found = place.files(*CSV, *PARQUET)
        if not found:
            raise InputError(f"{place.uri} does not contain a file that ends in {', '.join((*CSV, *PARQUET))}.")
        self._changed = {each.path: each.mtime_ns or 0 for each in found}
        one = len(found) == 1 and found[0].path == place.path
        self.files = [TableFile.by_name(place, each) for each in found]
        try:
            if one and not self.files[0].is_parquet:  # a single file may have any name, as in training
                self.files = [TableFile.by_content(place)]
        except OSError as error:
            raise failure(place.uri, "read", error) from None
        if len({each.is_parquet for each in self.files}) > 1:
            raise InputError(f"{place.uri} contains both CSV and Parquet files: use a folder with one format.")
        self._columns, self._more = columns, tuple(more)
        by_default = () if self.files[0].is_parquet else NULL_WORDS
        self.null_words = by_default if null_words is None else null_words
        self._wanted = wanted

    @cached_property
    def _layout(self) -> Layout:
        sample, whole = self.files[0].sample()
        layout = detect(sample, self._wanted, self.null_words, whole=whole)
        log.info("%s is read as %s", self.place.uri.partition("?")[0], layout.sentence())
        return layout

    def identity(self) -> list[dict[str, str | int]]:
        """Return what identifies the files: names, sizes, and digests or, for S3, modification times.

        The modification times of local files do not identify them: files of a ConfigMap or a download are new in each
        pod.
        """
        known: list[dict[str, str | int]] = []
        root = posixpath.dirname(self.place.path) if self.files[0].path == self.place.path else self.place.path
        for each in self.files:
            known.append({"path": posixpath.relpath(each.path, root), "bytes": each.size})
            if isinstance(self.place.filesystem, LocalFileSystem):
                try:
                    known[-1]["sha256"] = each.sha256()
                except OSError as error:
                    raise failure(each.path, "read", error) from None
            else:
                known[-1]["changed_ns"] = self._changed[each.path]
        return known

    def chunks(self, rows: int, first_row: int) -> Iterator[Chunk]:
        """Yield chunks of `rows` rows from `first_row` on, a multiple of `rows`. The last chunk may be shorter."""
        waiting: list[pa.Table] = []
        count, start, text = 0, first_row, False
        for table, as_text in self._tables(first_row):
            while table.num_rows:
                if waiting and as_text != text:  # a table cannot contain both text and numbers
                    waiting, as_text = [_as_text(each) for each in waiting], True
                    table = _as_text(table)
                text = as_text
                part = table.slice(0, rows - count)
                table = table.slice(part.num_rows)
                waiting.append(part)
                count += part.num_rows
                if count == rows:
                    yield Chunk(start, pa.concat_tables(waiting, promote_options="default"), text)
                    waiting, count, start = [], 0, start + rows
        if waiting:
            yield Chunk(start, pa.concat_tables(waiting, promote_options="default"), text)

    def _tables(self, first_row: int) -> Iterator[tuple[pa.Table, bool]]:
        """Yield tables of any size from a row on, and whether their cells are text."""
        skip = first_row
        for file in self.files:
            try:
                tables = self._parquet_tables(file, skip) if file.is_parquet else self._csv_tables(file, skip)
                for table, as_text, passed in tables:
                    skip -= passed
                    if table.num_rows:
                        yield table, as_text
            except OSError as error:
                raise failure(file.path, "read", error) from None
            except MemoryError:  # Arrow's own is also an ArrowException
                raise
            except pa.ArrowException as error:
                raise InputError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from None

    def _parquet_tables(self, file: TableFile, skip: int) -> Iterator[tuple[pa.Table, bool, int]]:
        """Yield tables with the number of rows that were skipped before each."""
        # Pages are read when they are needed, because a row group may be larger than the memory.
        with file.parquet(buffer_bytes=_READ_BYTES) as reader:
            wanted = self._present(reader.schema_arrow.names, file.path)
            sizes = [reader.metadata.row_group(i).num_rows for i in range(reader.num_row_groups)]
            groups, passed = list(range(len(sizes))), 0
            while groups and passed + sizes[groups[0]] <= skip:
                passed += sizes[groups.pop(0)]
            yield pa.table({}), False, passed
            left = skip - passed
            for batch in reader.iter_batches(row_groups=groups, columns=wanted) if groups else ():
                over = min(left, batch.num_rows)
                left -= over
                yield pa.Table.from_batches([batch.slice(over)]), False, over

    def _csv_tables(self, file: TableFile, skip: int) -> Iterator[tuple[pa.Table, bool, int]]:
        """Read cells with the types of their columns. Read text from the first block that fails, to name the cell."""
        done = 0
        try:
            for table in self._csv_batches(file, as_text=False):
                over = min(max(skip - done, 0), table.num_rows)
                done += table.num_rows
                yield table.slice(over), False, over
            return
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise
        read = 0
        for table in self._csv_batches(file, as_text=True):
            table = self._plain(table)
            known = min(max(done - read, 0), table.num_rows)  # yielded or skipped above
            over = min(max(skip - read, 0), table.num_rows)
            read += table.num_rows
            yield table.slice(max(known, over)), True, max(over - known, 0)

    def _csv_batches(self, file: TableFile, *, as_text: bool) -> Iterator[pa.Table]:
        types = {c.name: pa.string() if as_text else _csv_type(c) for c in self._columns}
        types |= {name: pa.string() for name in self._more if name not in types}  # copied unchanged
        options = CsvOptions(self.null_words, null_text=False, newlines_in_values=False, layout=self._layout)
        with file.csv_batches(options, types) as reader:
            wanted = self._present(reader.schema.names, file.path)
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(wanted)

    def _plain(self, table: pa.Table) -> pa.Table:
        """Return text of numbers in Python's notation."""
        numbers = {c.name for c in self._columns if _csv_type(c) in (pa.int64(), pa.float64())}
        for i, name in enumerate(table.column_names):
            if name in numbers:
                table = table.set_column(i, name, plain_text(table.column(i), self._layout.format))
        return table

    def _present(self, names: Sequence[str], path: str) -> list[str]:
        """Return the names of the columns to read."""
        required = [column.name for column in self._columns if column.required] + list(self._more)
        if missing := [name for name in required if name not in names]:
            raise InputError(
                f"{path} has no column {', '.join(missing[:10])}, which the model or --keep needs; its columns are "
                f"{', '.join(list(names)[:10])}{'…' if len(names) > 10 else ''}."
            )
        wanted = [column.name for column in self._columns if column.name in names]
        if twice := [name for name in (*wanted, *self._more) if list(names).count(name) > 1]:
            raise InputError(f"{path} has two columns named {twice[0]}: rename one.")
        return list(dict.fromkeys([*wanted, *self._more]))


def _csv_type(column: Column) -> pa.DataType:
    if column.categories:
        return pa.int64() if all(isinstance(each, int) for each in column.categories) else pa.string()
    if column.type == "boolean":
        return pa.bool_()
    if column.shape or column.type not in REALS | INTEGER_BITS.keys():
        return pa.string()  # text, dates, bytes in base64, and nested values in JSON
    return pa.int64() if column.type in INTEGER_BITS else pa.float64()


def _as_text(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
