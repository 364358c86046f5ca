"""A table of Parquet files: one file, or all files of a folder in the order of their names."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from training.data.column_names import check_names
from training.data.csv_parquet_reader import CSV, PARQUET, TableFile
from training.data.storage import Place, failure
from training.errors import InputError
from training.progress import bar


class ParquetTable:
    """The files of a place, which all have the same columns.

    `schema` contains the names and types of the columns in the order of the first file, and `groups` is the number of
    row groups. A column without values, or with text stored as a dictionary, matches the column of the other files.

    Raises:
        InputError: There is no file, a file is not Parquet, or its columns differ. The message names the file.
        TrainingError: The files are unreachable.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._files = _files(place)
        self.groups = 0
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
            with _opened(file) as reader:
                for i in range(reader.num_row_groups):
                    if chosen(number):
                        group = reader.read_row_group(i, columns=wanted.names)
                        yield start, group.select(wanted.names).cast(wanted)
                    number, start = number + 1, start + reader.metadata.row_group(i).num_rows

    def _common_schema(self) -> pa.Schema:
        first = self._files[0].path
        kinds: dict[str, pa.DataType] = {}
        for file in self._files:
            with _opened(file) as reader:
                schema = reader.schema_arrow
                self.groups += reader.num_row_groups
            check_names(schema.names, file.path)
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


@contextmanager
def _opened(file: TableFile) -> Iterator[ParquetFile]:
    try:
        with file.parquet() as reader:
            yield reader
    except OSError as error:
        raise failure(file.path, "read", error) from None
    except MemoryError:  # Arrow's own is also an ArrowException
        raise
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{file.path} is not a Parquet file, which folders and several workers require: {reason}"
        ) from None


def _files(place: Place) -> list[TableFile]:
    found = [TableFile.by_name(place, each) for each in place.files(*CSV, *PARQUET)]
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
