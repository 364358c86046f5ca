"""The Parquet files that are one table: a file, or all of a folder in the order of their names."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as parquet
from pyarrow.fs import FileInfo

from training.errors import InputError
from training.names import named
from training.progress import bar
from training.storage import Place, failure
from training.tables import CSV, PARQUET

_CHUNK = 1 << 20


class Parquets:
    """The files of a place, all of them with the same columns.

    `schema` holds the columns' names and types in the first file's order, `groups` how many row groups there are. A
    file that has no value in a column at all, or stores its texts as a dictionary, has the same column as the others.

    Raises:
        InputError: there is no file, or one that is no Parquet or has other columns, which it names.
        TrainingError: they cannot be read now.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._files = _files(place)
        self.groups = 0
        self.schema = self._common_schema()

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes; of a folder, of the lines that `sha256sum` prints for its files, in their order.

        Raises:
            TrainingError: they cannot be read.
        """
        with bar("read", sum(each.size for each in self._files), "B") as progress:
            lines = []
            for file in self._files:
                digest = hashlib.sha256()
                try:
                    with self.place.filesystem.open_input_stream(file.path) as stream:
                        while piece := stream.read(_CHUNK):
                            digest.update(piece)
                            progress.advance(len(piece))
                except OSError as error:
                    raise failure(file.path, "read", error) from None
                if file.path == self.place.path:
                    return digest.hexdigest()
                lines.append(f"{digest.hexdigest()}  {file.path[len(self.place.path) + 1 :]}\n")
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def tables(self, names: Sequence[str], chosen: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the chosen row groups, by their number through all files, each with the number of its first row.

        Raises:
            InputError: a file is damaged.
            TrainingError: it cannot be read.
        """
        wanted = pa.schema([self.schema.field(name) for name in names])
        number = start = 0
        for file in self._files:
            with self._opened(file.path) as reader:
                for i in range(reader.num_row_groups):
                    if chosen(number):
                        group = reader.read_row_group(i, columns=wanted.names)
                        yield start, group.select(wanted.names).cast(wanted)
                    number, start = number + 1, start + reader.metadata.row_group(i).num_rows

    def _common_schema(self) -> pa.Schema:
        first = self._files[0].path
        kinds: dict[str, pa.DataType] = {}
        for file in self._files:
            with self._opened(file.path) as reader:
                schema = reader.schema_arrow
                self.groups += reader.num_row_groups
            named(schema.names, file.path)
            if file.path == first:
                kinds = {field.name: field.type for field in schema}
            if missing := [name for name in kinds if name not in schema.names]:
                raise InputError(f"{file.path} has no column {missing[0]}, which {first} has.")
            for field in schema:
                if field.name not in kinds:
                    raise InputError(f"{file.path} has a column {field.name}, which {first} does not have.")
                known = kinds[field.name]
                if (kind := _common(known, field.type)) is None:
                    raise InputError(
                        f"{file.path}, column {field.name}: holds values of type {_plain(field.type)}, and the files "
                        f"before it {_plain(known)}; write all with the same type."
                    )
                kinds[field.name] = kind
        return pa.schema(kinds.items())

    @contextmanager
    def _opened(self, path: str) -> Iterator[parquet.ParquetFile]:
        try:
            with self.place.filesystem.open_input_file(path) as source:
                yield parquet.ParquetFile(source)
        except OSError as error:
            raise failure(path, "read", error) from None
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{path} is no Parquet, which a folder's files and those of several workers are: {reason}"
            ) from None


def _files(place: Place) -> list[FileInfo]:
    found = place.files(*CSV, *PARQUET)
    if len(found) == 1 and found[0].path == place.path:
        return found
    if not found:
        raise InputError(f"{place.uri} is a folder without a .parquet file.")
    if strangers := [each.path for each in found if not each.path.lower().endswith(PARQUET)]:
        raise InputError(
            f"{place.uri} is a folder with CSV ({strangers[0]}): give one CSV file, or a folder of Parquet."
        )
    return found


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that both are without a value changing, None when there is none."""
    if one == other or pa.types.is_null(other):
        return one
    one, other = _plain(one), _plain(other)
    return other if one == other or pa.types.is_null(one) else None


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
