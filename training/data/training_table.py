"""The table to train on, with the digest of its bytes.

It is a built-in data set, a folder of Parquet files, or a file whose content shows whether it is CSV, compressed CSV or
Parquet.
"""

import hashlib
import importlib.resources
import logging
import tempfile
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from training.data import inference_log
from training.data.csv_format import PLAIN_LAYOUT, CsvFormat, detect, plain_numbers
from training.data.csv_parquet_reader import CsvOptions, TableFile
from training.data.null_words import NULL_WORDS, without_words
from training.data.parquet_table import ParquetTable, column_blocks
from training.data.storage import NO_ROOM, copy, failure, parsed, place
from training.errors import InputError, ResourceError, TrainingError

# Data sets of scikit-learn: the file, the name of the target, and the classes in the order of their numbers.
BUILT_IN = {
    "breast_cancer": ("breast_cancer.csv", "diagnosis", ("malignant", "benign")),
    "wine": ("wine_data.csv", "cultivar", ("class_0", "class_1", "class_2")),
    "diabetes": ("diabetes_data_raw.csv.gz", "progression", ()),
}
_SERVER_ERRORS, _BUSY = 500, (408, 429)  # statuses after which a retry can help

log = logging.getLogger("training")


@dataclass(frozen=True)
class Raw:
    """A table without preprocessing. Parquet files are read by column, when a column is used.

    Args:
        name: Name of the data set.
        names: Columns in their order.
        rows: Number of rows.
        columns: Returns these columns.
        sha256: Returns the digest of the bytes.
        target: Target of a built-in data set or of an inference log.
        classes: Classes of a built-in data set by number.
        csv: Format of a CSV file.
        files: Returns the digest of each file of a folder by its path.
        own: Columns of an inference log that are not features.
    """

    name: str
    names: list[str]
    rows: int
    columns: Callable[[Sequence[str]], pa.Table]
    sha256: Callable[[], str]
    target: str = ""
    classes: tuple[str, ...] = ()
    csv: CsvFormat | None = None
    files: Callable[[], Mapping[str, str]] = dict
    own: tuple[str, ...] = ()

    def blocks(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the columns in tables that each need a small part of the memory of all.

        Raises:
            InputError: A file is damaged or has changed.
            TrainingError: A file cannot be read.
        """
        yield from (self.columns(each) for each in column_blocks(names, self.rows))


@contextmanager
def opened(uri: str, null_words: tuple[str, ...] | None = None, wanted: CsvFormat | None = None) -> Iterator[Raw]:
    """Open a table.

    Args:
        uri: A built-in data set, a local file, s3://bucket/key or http(s)://, a local or S3 folder of Parquet files, or
            the name of a table of an inference log.
        null_words: Words that stand for a missing value. None: `NULL_WORDS` in CSV files only, as in manifests that do
            not record them.
        wanted: Format of a CSV file. None: `PLAIN`, and columns without a name are refused, as in manifests that do not
            record it.

    Raises:
        InputError: The table does not exist, there is no permission to read it, or it is not a table.
        TrainingError: The place is unreachable.
        ResourceError: There is no room for a copy of a remote file.
    """
    if uri in BUILT_IN:
        yield _built_in(uri)
        return
    if inference_log.is_log(uri):
        yield _logged(uri)
        return
    parts = parsed(uri)
    if parts.username or parts.password:
        raise InputError(f"--data (TRAINING_DATA): credentials do not belong in the URI of {parts.hostname}.")
    name = Path(parts.path).name or uri
    if parts.scheme in ("", "file", "s3") and (where := place(uri)).is_folder:
        yield _parquet(name, ParquetTable(where), null_words)
        return
    with _local(uri, parts.scheme) as path:
        file = TableFile.by_content(place(str(path)))
        if not file.size:
            raise InputError(f"{_public(uri)} is empty.")
        if file.is_parquet:
            yield _parquet(name, ParquetTable(replace(place(str(path)), uri=_public(uri))), null_words)
            return
        table, known = _csv_table(file, uri, null_words, wanted)
        yield Raw(name, table.column_names, table.num_rows, table.select, file.sha256, csv=known)


def _parquet(name: str, source: ParquetTable, null_words: tuple[str, ...] | None) -> Raw:
    def columns(names: Sequence[str]) -> pa.Table:
        return without_words(source.read(names), null_words or (), names)

    def digests() -> Mapping[str, str]:
        return source.file_sha256 if source.place.is_folder else {}

    return Raw(name, source.schema.names, source.rows, columns, source.checked_sha256, files=digests)


def _logged(source: str) -> Raw:
    found = inference_log.labelled(source)
    own = (inference_log.IDENTITY, inference_log.TIME)
    table, target = found.table, found.table.column_names[-1]
    return Raw(
        "inference-log", table.column_names, table.num_rows, table.select, lambda: found.sha256, target,
        files=lambda: found.files, own=own,
    )  # fmt: skip


def _built_in(name: str) -> Raw:
    from sklearn import datasets

    file, target, classes = BUILT_IN[name]
    arguments: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**arguments)
    frame = pd.DataFrame(bunch.data, columns=[str(column) for column in bunch.feature_names])
    frame[target] = [classes[int(value)] for value in bunch.target] if classes else bunch.target
    raw = importlib.resources.files("sklearn.datasets.data").joinpath(file).read_bytes()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    digest = hashlib.sha256(raw).hexdigest()
    return Raw(name, table.column_names, table.num_rows, table.select, lambda: digest, target, classes)


@contextmanager
def _local(uri: str, scheme: str) -> Iterator[Path]:
    """Yield the path of a local file, or of a copy of a remote one."""
    try:
        if scheme not in ("", "file", "s3", "http", "https"):
            raise InputError(f"{scheme}:// is not supported: use a path, file://, s3://, http:// or https://.")
        if scheme in ("", "file"):
            path = Path(place(uri).path)
            if not path.is_file():
                raise InputError(f"{uri} is not a file. The built-in data sets are {', '.join(BUILT_IN)}.")
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="training-") as local:
            try:
                copy(uri, local)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise ResourceError(f"No room in {tempfile.gettempdir()} for a copy of {_public(uri)}.") from None
                raise
            yield Path(local.name)
    except urllib.error.HTTPError as error:
        error.close()
        kind = TrainingError if error.code >= _SERVER_ERRORS or error.code in _BUSY else InputError
        raise kind(f"{_public(uri)} cannot be read: the server answers {error.code} {error.reason}.") from None
    except OSError as error:
        raise failure(_public(uri), "read", error) from None


def _csv_table(
    file: TableFile, uri: str, null_words: tuple[str, ...] | None, wanted: CsvFormat | None
) -> tuple[pa.Table, CsvFormat | None]:
    words = NULL_WORDS if null_words is None else null_words
    try:
        layout = PLAIN_LAYOUT
        if wanted:
            sample, whole = file.sample()
            layout = detect(sample, wanted, words, whole=whole)
            log.info("%s is read as %s", _public(uri), layout.sentence())
        table = file.table(CsvOptions(words, null_text=True, newlines_in_values=True, layout=layout))
        table = table.select(list(range(layout.unnamed, table.num_columns)))
        return plain_numbers(table, layout.format), layout.format if wanted else None
    except MemoryError:  # Arrow's own is also an ArrowException
        raise
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(f"{_public(uri)} is not a CSV or Parquet table: {what}") from None


def _public(uri: str) -> str:
    """Return the URI without its query, which may contain a signature."""
    return uri.partition("?")[0]
