"""The table to train on, with the digest of its bytes.

It is a built-in data set, a folder of Parquet files, or a file whose content shows whether it is CSV, compressed CSV or
Parquet.
"""

import hashlib
import importlib.resources
import logging
import tempfile
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from training.data import inference_log
from training.data.csv_format import PLAIN_LAYOUT, CsvFormat, detect, plain_numbers
from training.data.csv_parquet_reader import CsvOptions, TableFile
from training.data.null_words import NULL_WORDS, without_words
from training.data.parquet_table import ParquetTable
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
    """A table without preprocessing, with the digest of each file of a folder.

    Only built-in data sets and inference logs have a `target`, only built-in data sets `classes`, and only CSV files a
    format. Only inference logs have columns of their `own`, which are not features.
    """

    name: str
    table: pa.Table
    sha256: str
    target: str = ""
    classes: tuple[str, ...] = ()
    csv: CsvFormat | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()


def read(uri: str, null_words: tuple[str, ...] | None = None, wanted: CsvFormat | None = None) -> Raw:
    """Read a table.

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
        return _built_in(uri)
    if inference_log.is_log(uri):
        return _logged(uri)
    parts = parsed(uri)
    if parts.username or parts.password:
        raise InputError(f"--data (TRAINING_DATA): credentials do not belong in the URI of {parts.hostname}.")
    name = Path(parts.path).name or uri
    if parts.scheme in ("", "file", "s3") and (where := place(uri)).is_folder:
        source = ParquetTable(where)
        tables = [each for _, each in source.tables(source.schema.names, lambda _: True)]
        table = pa.concat_tables([source.schema.empty_table(), *tables])
        table = without_words(table, null_words or (), table.column_names)
        return Raw(name, table, source.sha256, files=source.file_sha256)
    with _local(uri, parts.scheme) as path:
        file = TableFile.by_content(place(str(path)))
        table, known = _table(file, uri, null_words, wanted)
        return Raw(name, table, file.sha256(), csv=known)


def _logged(source: str) -> Raw:
    found = inference_log.labelled(source)
    own = (inference_log.IDENTITY, inference_log.TIME)
    return Raw("inference-log", found.table, found.sha256, found.table.column_names[-1], files=found.files, own=own)


def _built_in(name: str) -> Raw:
    from sklearn import datasets

    file, target, classes = BUILT_IN[name]
    arguments: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**arguments)
    frame = pd.DataFrame(bunch.data, columns=[str(column) for column in bunch.feature_names])
    frame[target] = [classes[int(value)] for value in bunch.target] if classes else bunch.target
    raw = importlib.resources.files("sklearn.datasets.data").joinpath(file).read_bytes()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return Raw(name, table, hashlib.sha256(raw).hexdigest(), target, classes)


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


def _table(
    file: TableFile, uri: str, null_words: tuple[str, ...] | None, wanted: CsvFormat | None
) -> tuple[pa.Table, CsvFormat | None]:
    if not file.size:
        raise InputError(f"{_public(uri)} is empty.")
    words = NULL_WORDS if null_words is None else null_words
    try:
        layout = PLAIN_LAYOUT
        if wanted and not file.is_parquet:
            sample, whole = file.sample()
            layout = detect(sample, wanted, words, whole=whole)
            log.info("%s is read as %s", _public(uri), layout.sentence())
        table = file.table(CsvOptions(words, null_text=True, newlines_in_values=True, layout=layout))
        if file.is_parquet:
            return without_words(table, null_words or (), table.column_names), None
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
