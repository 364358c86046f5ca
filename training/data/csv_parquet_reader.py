"""CSV and Parquet files. Training, scoring and describe open every table with this reader."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from pyarrow.fs import FileInfo, FileSystem

from training.data.csv_format import PLAIN_LAYOUT, SAMPLE_BYTES, UTF_8, Layout
from training.data.storage import Place

CSV, PARQUET = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst"), (".parquet",)
_PARQUET_MAGIC = b"PAR1"
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}  # by the first bytes of a file
_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_BLOCK_BYTES = 1 << 20
_COMPRESSION_RATIO = 20  # upper estimate, for the size of an unpacked file


@dataclass(frozen=True)
class CsvOptions:
    """How the cells of CSV files are read.

    Args:
        null_words: Words that stand for a missing value.
        null_text: Whether they do so in columns of text, too.
        newlines_in_values: Whether a quoted value may contain line breaks.
        layout: Format and header of the file.
    """

    null_words: tuple[str, ...]
    null_text: bool
    newlines_in_values: bool
    layout: Layout = PLAIN_LAYOUT


@dataclass(frozen=True)
class TableFile:
    """A CSV or Parquet file. Callers translate the errors of pyarrow, because they know what their users need."""

    filesystem: FileSystem
    path: str
    size: int
    is_parquet: bool
    codec: str | None

    @classmethod
    def by_name(cls, place: Place, file: FileInfo) -> "TableFile":
        """Return the file, with the format of its name."""
        name = file.path.lower()
        codec = next((codec for suffix, codec in _SUFFIXES.items() if name.endswith(suffix)), None)
        return cls(place.filesystem, file.path, file.size or 0, name.endswith(PARQUET), codec)

    @classmethod
    def by_content(cls, place: Place) -> "TableFile":
        """Return the file, with the format of its first bytes."""
        with place.filesystem.open_input_stream(place.path, compression=None) as stream:
            start = stream.read(len(_PARQUET_MAGIC))
        size = place.filesystem.get_file_info(place.path).size or 0
        codec = next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)
        return cls(place.filesystem, place.path, size, start == _PARQUET_MAGIC, codec)

    def sha256(self, advance: Callable[[int], None] = lambda _: None) -> str:
        """Return the digest of the file's bytes.

        Args:
            advance: Called with the size of each block.
        """
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(self.path, compression=None) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                advance(len(block))
        return digest.hexdigest()

    def sample(self) -> tuple[bytes, bool]:
        """Return the first unpacked bytes of a CSV file, and whether these are all bytes."""
        with self._csv_stream() as stream:
            start = stream.read(SAMPLE_BYTES)
            return start, not stream.read(1)

    @contextmanager
    def parquet(self, *, buffer_bytes: int = 0) -> Iterator[parquet.ParquetFile]:
        """Open a Parquet file.

        Args:
            buffer_bytes: Read a column in blocks of this size. 0 reads the column of a whole row group.
        """
        # A scan with pyarrow.dataset decodes whole row groups, which may be larger than the memory.
        with self.filesystem.open_input_file(self.path) as source:
            yield parquet.ParquetFile(source, buffer_size=buffer_bytes, pre_buffer=False)

    def table(self, options: CsvOptions) -> pa.Table:
        """Return the whole table. The type of a CSV column fits all of its rows, not only the first ones."""
        if self.is_parquet:
            with self.parquet() as file:
                return file.read()
        block = min(max(self.size * (_COMPRESSION_RATIO if self.codec else 1), 1 << 16), 2**31 - 1)
        with self._csv_stream() as stream:
            table = csv.read_csv(
                stream,
                read_options=_reading(options, block_size=block),
                parse_options=_parsing(options),
                convert_options=_conversion(options, {}),
            )
        _check_header(table.schema)
        return table

    @contextmanager
    def csv_batches(self, options: CsvOptions, types: Mapping[str, pa.DataType]) -> Iterator[csv.CSVStreamingReader]:
        """Open a CSV file that is read in blocks, with these types of columns."""
        read = _reading(options, block_size=_BLOCK_BYTES, use_threads=False)
        convert = _conversion(options, types)
        with (
            self._csv_stream() as stream,
            csv.open_csv(stream, read_options=read, parse_options=_parsing(options), convert_options=convert) as reader,
        ):
            _check_header(reader.schema)
            yield reader

    @contextmanager
    def _csv_stream(self) -> Iterator[pa.NativeFile]:
        with self.filesystem.open_input_stream(self.path, compression=self.codec) as stream:
            yield stream


def _check_header(schema: pa.Schema) -> None:
    try:
        _ = schema.names
    except UnicodeDecodeError:
        raise pa.ArrowInvalid(
            "the header is not UTF-8 text; name the encoding with --csv-encoding, such as latin-1, or save the file as "
            "UTF-8, uncompressed or compressed with gzip, bzip2 or zstd"
        ) from None


def _parsing(options: CsvOptions) -> csv.ParseOptions:
    delimiter = options.layout.format.delimiter
    return csv.ParseOptions(delimiter=delimiter, newlines_in_values=options.newlines_in_values)


def _reading(options: CsvOptions, **more: Any) -> csv.ReadOptions:
    encoding, names = options.layout.format.encoding, options.layout.names
    header = {"column_names": list(names), "skip_rows": 1} if names else {}
    return csv.ReadOptions(encoding="utf8" if encoding == UTF_8 else encoding, **header, **more)


def _conversion(options: CsvOptions, types: Mapping[str, pa.DataType]) -> csv.ConvertOptions:
    words = list(options.null_words)
    return csv.ConvertOptions(
        column_types=dict(types),
        strings_can_be_null=options.null_text,
        null_values=words,
        decimal_point=options.layout.format.decimal,
    )
