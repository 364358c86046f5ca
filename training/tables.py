"""Read a data set of CSV or Parquet files as tables of a fixed number of rows, in bounded memory and from any row on.

Rows are counted from 0 through all files in the order of their names, so that a table's number alone says which rows
are in it, whatever the files' own batches and row groups are.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from pyarrow.fs import FileInfo, LocalFileSystem

from app.columns import INTEGER_BITS, Column
from training.errors import InputError
from training.storage import Place, failure

CSV, PARQUET = (".csv", ".csv.gz"), (".parquet",)
_READ_BYTES = 1 << 20  # of a column at a time, and of a CSV file


@dataclass(frozen=True)
class Piece:
    """Rows in a row; `text` says that the cells of a CSV file could not be read as its columns' types."""

    first_row: int
    table: pa.Table
    text: bool


class DataSet:
    """The files of a place.

    Args:
        place: a file, or a folder of files of one format.
        columns: of the model; others are read only when named in `more`.
        more: columns that are copied.

    Raises:
        InputError: there is no such file.
        TrainingError: it cannot be looked at now.
    """

    def __init__(self, place: Place, columns: Sequence[Column], more: Sequence[str]) -> None:
        self.place = place
        self.files = place.files(*CSV, *PARQUET)
        if not self.files:
            raise InputError(f"{place.uri} holds no .csv, .csv.gz or .parquet file.")
        if len(kinds := {each.path.lower().endswith(PARQUET) for each in self.files}) > 1:
            raise InputError(f"{place.uri} holds both CSV and Parquet files: give a folder with one of them.")
        self._parquet = kinds == {True}
        self._columns, self._more = columns, tuple(more)

    def identity(self) -> list[dict[str, str | int]]:
        """Return what tells that the files are still the same: names, sizes, and digests or a bucket's times of change.

        A volume's times do not tell: the files of a ConfigMap and of a download are new in each pod.
        """
        known: list[dict[str, str | int]] = []
        root = posixpath.dirname(self.place.path) if self.files[0].path == self.place.path else self.place.path
        for each in self.files:
            known.append({"path": posixpath.relpath(each.path, root), "bytes": each.size})
            if isinstance(self.place.filesystem, LocalFileSystem):
                try:
                    with open(each.path, "rb") as file:
                        known[-1]["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError as error:
                    raise failure(each.path, "read", error) from None
            else:
                known[-1]["changed_ns"] = each.mtime_ns or 0
        return known

    def pieces(self, rows: int, first_row: int) -> Iterator[Piece]:
        """Yield the rows from `first_row`, a multiple of `rows`, in tables of `rows`; the last may be shorter."""
        waiting: list[pa.Table] = []
        count, start, text = 0, first_row, False
        for table, as_text in self._tables(first_row):
            while table.num_rows:
                if waiting and as_text != text:  # texts and numbers do not go into one table
                    waiting, as_text = [_as_text(each) for each in waiting], True
                    table = _as_text(table)
                text = as_text
                part = table.slice(0, rows - count)
                table = table.slice(part.num_rows)
                waiting.append(part)
                count += part.num_rows
                if count == rows:
                    yield Piece(start, pa.concat_tables(waiting, promote_options="default"), text)
                    waiting, count, start = [], 0, start + rows
        if waiting:
            yield Piece(start, pa.concat_tables(waiting, promote_options="default"), text)

    def _tables(self, first_row: int) -> Iterator[tuple[pa.Table, bool]]:
        """Yield tables of any size from a row on."""
        skip = first_row
        for file in self.files:
            try:
                tables = self._parquet_tables(file, skip) if self._parquet else self._csv_tables(file, skip)
                for table, as_text, passed in tables:
                    skip -= passed
                    if table.num_rows:
                        yield table, as_text
            except OSError as error:
                raise failure(file.path, "read", error) from None
            except pa.ArrowInvalid as error:
                raise InputError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from None

    def _parquet_tables(self, file: FileInfo, skip: int) -> Iterator[tuple[pa.Table, bool, int]]:
        """Yield tables with the number of rows that were passed over before each."""
        with self.place.filesystem.open_input_file(file.path) as source:
            # Pages are read as they are needed: a row group may be larger than the memory.
            reader = parquet.ParquetFile(source, buffer_size=_READ_BYTES, pre_buffer=False)
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

    def _csv_tables(self, file: FileInfo, skip: int) -> Iterator[tuple[pa.Table, bool, int]]:
        """Read cells as their columns' types; from the block on where that fails as text, so that the cell is named."""
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
            known = min(max(done - read, 0), table.num_rows)  # yielded above, or passed over
            over = min(max(skip - read, 0), table.num_rows)
            read += table.num_rows
            yield table.slice(max(known, over)), True, max(over - known, 0)

    def _csv_batches(self, file: FileInfo, *, as_text: bool) -> Iterator[pa.Table]:
        types = {c.name: pa.string() if as_text else _csv_type(c) for c in self._columns}
        types |= dict.fromkeys(self._more, pa.string())  # copied as they stand
        convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        read = csv.ReadOptions(block_size=_READ_BYTES, use_threads=False)
        with (
            self.place.filesystem.open_input_stream(file.path, compression="detect") as stream,
            csv.open_csv(stream, read_options=read, convert_options=convert) as reader,
        ):
            wanted = self._present(reader.schema.names, file.path)
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(wanted)

    def _present(self, names: Sequence[str], path: str) -> list[str]:
        """Return the columns to read."""
        required = [column.name for column in self._columns if column.required] + list(self._more)
        if missing := [name for name in required if name not in names]:
            raise InputError(
                f"{path} has no column {', '.join(missing[:10])}, which the model or --keep needs; it has "
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
    return pa.int64() if column.type in INTEGER_BITS else pa.float64()


def _as_text(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
