"""A table of Parquet files: one file, or all files of a folder in the order of their names."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

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
    with text stored as a dictionary, matches the column of the other files. `groups` and `rows` are the numbers of row
    groups and of rows.

    Raises:
        InputError: There is no file, a file is not Parquet, or its columns differ. The message names the file.
        TrainingError: The files are unreachable.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._found = place.files(*CSV, *PARQUET)
        self._files = _files(place, self._found)
        self.groups = self.rows = 0
        self.schema = self._common_schema()

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
        before, now = _versions(self._found), _versions(self.place.files(*CSV, *PARQUET))
        if changed := sorted(path for path in before | now if before.get(path) != now.get(path)):
            raise InputError(
                f"{changed[0]} has changed while it was read: write new data to a new path, and train again."
            )
        return digest

    def tables(self, names: Sequence[str], chosen: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the chosen row groups, each with the number of its first row.

        Args:
            names: Columns to read.
            chosen: Selects a row group by its number, counted through all files.

        Raises:
            InputError: A file is damaged.
            TrainingError: A file cannot be read.
        """
        wanted = pa.schema([self.schema.field(name) for name in names])
        number = start = 0
        for file in self._files:
            with self._opened(file) as reader:
                for i in range(reader.num_row_groups):
                    if chosen(number):
                        yield start, self._row_group(file, reader, i, wanted)
                    number, start = number + 1, start + reader.metadata.row_group(i).num_rows

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
                self.groups += reader.num_row_groups
                self.rows += reader.metadata.num_rows
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
