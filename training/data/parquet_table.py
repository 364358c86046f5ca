"""A table of Parquet files: one file, or all files of a folder in the order of their names."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyarrow.fs import FileInfo
from pyarrow.parquet import ParquetFile

from training.data.column_names import check_names
from training.data.csv_parquet_reader import CSV, PARQUET, TableFile
from training.data.storage import Place, failure
from training.errors import InputError
from training.progress import bar

_BLOCK_BYTES = 4 << 20
_BLOCKS = 16


class ParquetTable:
    """The files of a place, which all have the same columns.

    `schema` contains the names and types of the columns in the order of the first file. A column without values, or
    with text stored as a dictionary, matches the column of the other files. `group_rows` contains the number
    of rows of each row group, through all files.

    Raises:
        InputError: There is no file, a file is not Parquet, or its columns differ. The message names the file.
        TrainingError: The files are unreachable.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._found = place.files(*CSV, *PARQUET)
        self._files = _files(place, self._found)
        self._group_rows: list[list[int]] = []  # by file
        self.schema = self._common_schema()
        self.group_rows = [rows for each in self._group_rows for rows in each]

    @property
    def groups(self) -> int:
        """Number of row groups."""
        return len(self.group_rows)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.group_rows)

    @property
    def files(self) -> dict[str, list[int]]:
        """Size of each file, and the rows of its row groups, by path in the folder. That of a single file is empty."""
        return {
            file.path[len(self.place.path) + 1 :]: [file.size, *rows]
            for file, rows in zip(self._files, self._group_rows, strict=True)
        }

    @cached_property
    def file_sha256(self) -> dict[str, str]:
        """Digest of each file by its path in the folder, in order. The path of a single file is empty.

        Raises:
            TrainingError: A file cannot be read.
        """
        found = {}
        with bar("read", sum(each.size for each in self._files), "B") as progress:
            for file in self._files:
                try:
                    found[file.path[len(self.place.path) + 1 :]] = file.sha256(progress.advance)
                except OSError as error:
                    raise failure(file.path, "read", error) from None
        return found

    @property
    def sha256(self) -> str:
        """Digest of the file. For a folder, the digest of the lines that `sha256sum` prints for its files, in order."""
        if digest := self.file_sha256.get(""):
            return digest
        lines = (f"{digest}  {path}\n" for path, digest in self.file_sha256.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def checked_sha256(self) -> str:
        """Return `sha256`, after a check that the files are those that were opened.

        Raises:
            InputError: A file has changed. The message names it.
        """
        digest = self.sha256
        self.check_unchanged()
        return digest

    def check_unchanged(self) -> None:
        """Refuse files that have changed since they were opened.

        Raises:
            InputError: A file has changed. The message names it.
        """
        before, now = _versions(self._found), _versions(self.place.files(*CSV, *PARQUET))
        if changed := sorted(path for path in before | now if before.get(path) != now.get(path)):
            raise self._changed(changed[0])

    def read(self, names: Sequence[str], chosen: Callable[[int], bool] = lambda _: True) -> pa.Table:
        """Return these columns of the chosen row groups.

        Raises:
            InputError: A file is damaged or has changed.
            TrainingError: A file cannot be read.
        """
        empty = self.schema.empty_table().select(names)
        return pa.concat_tables([empty, *(each for _, each in self.tables(names, chosen))])

    def tables(self, names: Sequence[str], chosen: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the chosen row groups, each with the number of its first row.

        Args:
            names: Columns to read.
            chosen: Selects a row group by its number, counted through all files.

        Raises:
            InputError: A file is damaged or has changed.
            TrainingError: A file cannot be read.
        """
        wanted = pa.schema([self.schema.field(name) for name in names])
        number = start = 0
        for file, rows in zip(self._files, self._group_rows, strict=True):
            own = [i for i in range(len(rows)) if chosen(number + i)]
            starts = np.cumsum([start, *rows])
            if own:
                with self._opened(file) as reader:
                    if _rows_of_groups(reader) != rows:
                        raise self._changed(self._shown(file))
                    for i in own:
                        yield int(starts[i]), self._row_group(file, reader, i, wanted)
            number, start = number + len(rows), int(starts[-1])

    def _row_group(self, file: TableFile, reader: ParquetFile, number: int, wanted: pa.Schema) -> pa.Table:
        try:
            return reader.read_row_group(number, columns=wanted.names).select(wanted.names).cast(wanted)
        except MemoryError:  # Arrow's own is also an ArrowException
            raise
        except (OSError, pa.ArrowException) as error:
            where = f"Row group {number + 1} of {reader.num_row_groups} in {self._shown(file)}"
            found = failure(where, "read", error if isinstance(error, OSError) else OSError(str(error)))
            if isinstance(found, InputError):
                raise InputError(f"{str(found).rstrip('.')}; write the file again.") from None
            raise found from None

    def _changed(self, path: str) -> InputError:
        return InputError(f"{path} has changed while it was read: write new data to a new path, and train again.")

    def _shown(self, file: TableFile) -> str:
        """Return the path of a file, or the URI of a single file, which may be a copy."""
        return self.place.uri if file.path == self.place.path else file.path

    @contextmanager
    def _opened(self, file: TableFile) -> Iterator[ParquetFile]:
        try:
            with file.parquet() as reader:
                yield reader
        except OSError as error:
            raise failure(self._shown(file), "read", error) from None
        except MemoryError:  # Arrow's own is also an ArrowException
            raise
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{self._shown(file)} is not a Parquet file, which folders and several workers require, or it is "
                f"damaged: {reason}"
            ) from None

    def _common_schema(self) -> pa.Schema:
        first = self._files[0].path
        kinds: dict[str, pa.DataType] = {}
        for file in self._files:
            with self._opened(file) as reader:
                schema = reader.schema_arrow
                self._group_rows.append(_rows_of_groups(reader))
            check_names(schema.names, self._shown(file))
            if file.path == first:
                kinds = {field.name: field.type for field in schema}
            if missing := [name for name in kinds if name not in schema.names]:
                raise InputError(f"{file.path} does not have the column {missing[0]} of {first}.")
            for field in schema:
                if field.name not in kinds:
                    raise InputError(f"{file.path} has a column {field.name}, which {first} does not have.")
                known = kinds[field.name]
                if (kind := _common(known, field.type)) is None:
                    raise InputError(
                        f"{file.path}, column {field.name}: the type is {_plain(field.type)}, and {_plain(known)} in "
                        "the files before it; write all files with the same type."
                    )
                kinds[field.name] = kind
        return pa.schema(kinds.items())


def column_blocks(names: Sequence[str], rows: int) -> Iterator[Sequence[str]]:
    """Yield consecutive columns whose 64-bit numbers need little memory, at most a sixteenth of that of all columns."""
    size = max(1, _BLOCK_BYTES // (8 * max(rows, 1)), -(-len(names) // _BLOCKS))
    yield from (names[start : start + size] for start in range(0, len(names), size))


def _rows_of_groups(reader: ParquetFile) -> list[int]:
    return [reader.metadata.row_group(i).num_rows for i in range(reader.num_row_groups)]


def _versions(files: Sequence[FileInfo]) -> dict[str, tuple[int, int]]:
    """Return what changes when a file is written again."""
    return {each.path: (each.size, each.mtime_ns) for each in files}


def _files(place: Place, listed: Sequence[FileInfo]) -> list[TableFile]:
    found = [TableFile.by_name(place, each) for each in listed]
    if len(found) == 1 and found[0].path == place.path:
        return found
    if not found:
        raise InputError(f"{place.uri} is a folder without a .parquet file.")
    if others := [each.path for each in found if not each.is_parquet]:
        raise InputError(
            f"{place.uri} is a folder with CSV ({others[0]}): use one CSV file, or a folder of Parquet files."
        )
    return found


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that represents the values of both types unchanged, or None."""
    if one == other or pa.types.is_null(other):
        return one
    one, other = _plain(one), _plain(other)
    return other if one == other or pa.types.is_null(one) else None


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
