"""Read a table from where it lies, with the digest of its bytes: CSV (also gzipped) or Parquet, told by content,
or a folder of Parquet files.
"""

import errno
import hashlib
import importlib.resources
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
from pyarrow import csv
from pyarrow import parquet as pq

from training.errors import InputError, ResourceError
from training.parquets import Parquets
from training.progress import bar
from training.storage import NO_ROOM, place

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
# What stands in a CSV file for a value that is not there; the service calls it null.
_NULLS = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"]
# Data sets that scikit-learn ships: its file, the target's name, and the classes in the order of their numbers.
BUILT_IN = {
    "breast_cancer": ("breast_cancer.csv", "diagnosis", ("malignant", "benign")),
    "wine": ("wine_data.csv", "cultivar", ("class_0", "class_1", "class_2")),
    "diabetes": ("diabetes_data_raw.csv.gz", "progression", ()),
}


@dataclass(frozen=True)
class Raw:
    """A table as it lies there; `target` and `classes` are known of the built-in ones alone."""

    name: str
    table: pa.Table
    sha256: str
    target: str = ""
    classes: tuple[str, ...] = ()


def read(uri: str) -> Raw:
    """Read a built-in data set, a local file, s3://bucket/key or http(s)://, or a folder of Parquet that is no http(s).

    S3 takes its credentials from AWS_ACCESS_KEY_ID and the like, another server than Amazon's from AWS_ENDPOINT_URL.

    Raises:
        InputError: it is not there, may not be read or is no table.
        TrainingError: a folder cannot be read now.
        ResourceError: no room for a copy of what comes by network.
    """
    if uri in BUILT_IN:
        return _built_in(uri)
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise InputError(f"--data (TRAINING_DATA): credentials do not belong in the URI of {parts.hostname}.")
    name = Path(parts.path).name or uri
    if parts.scheme in ("", "file", "s3") and (where := place(uri)).is_folder:
        source = Parquets(where)
        tables = [each for _, each in source.tables(source.schema.names, lambda _: True)]
        return Raw(name, pa.concat_tables([source.schema.empty_table(), *tables]), source.sha256)
    with _local(uri, parts.scheme) as path:
        sha256 = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
        table = _table(path, uri)
    return Raw(name, table, sha256.hexdigest())


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
    """Yield the path of a file with the content: the file itself, or a copy of what comes by network."""
    try:
        if scheme in ("", "file"):
            path = Path(place(uri).path)
            if not path.is_file():
                raise InputError(f"{uri} is no file. Built in are {', '.join(BUILT_IN)}.")
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="training-") as copy:
            try:
                _download(uri, scheme, copy)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise ResourceError(f"No room in {tempfile.gettempdir()} for a copy of {_public(uri)}.") from None
                raise
            yield Path(copy.name)
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(f"{_public(uri)} cannot be read: the server answers {error.code} {error.reason}.") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or " ".join(str(error).split())
        raise InputError(f"{_public(uri)} cannot be read: {reason}.") from None


def _download(uri: str, scheme: str, copy: IO[bytes]) -> None:
    opened: Any
    if scheme == "s3":
        where = place(uri)
        size = where.filesystem.get_file_info(where.path).size or 0
        opened = where.filesystem.open_input_stream(where.path)
    elif scheme in ("http", "https"):
        opened = urllib.request.urlopen(uri, timeout=_TIMEOUT_SECONDS)  # noqa: S310 - one of two schemes
        size = int(opened.headers.get("Content-Length") or 0)
    else:
        raise InputError(f"{scheme}:// is none of a path, file://, s3://, http:// and https://.")
    with opened, bar("download", size or None, "B") as progress:
        while chunk := opened.read(_CHUNK):
            copy.write(chunk)
            progress.advance(len(chunk))
    copy.flush()
    if size and copy.tell() != size:
        raise OSError(errno.EIO, f"it ended after {copy.tell()} of {size} bytes")


def _table(path: Path, uri: str) -> pa.Table:
    with path.open("rb") as opened:
        start = opened.read(4)
    if not start:
        raise InputError(f"{_public(uri)} is empty.")
    try:
        if start == b"PAR1":
            with pq.ParquetFile(path) as file:
                return file.read()
        block = min(max(path.stat().st_size * (20 if start[:2] == b"\x1f\x8b" else 1), 1 << 16), 2**31 - 1)
        # One block for all: a column's type is what fits each of its rows, not the first ones.
        return csv.read_csv(
            pa.input_stream(str(path), compression="gzip" if start[:2] == b"\x1f\x8b" else None),
            read_options=csv.ReadOptions(block_size=block),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, null_values=_NULLS),
        )
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(f"{_public(uri)} is no table in CSV or Parquet: {what}") from None


def _public(uri: str) -> str:
    """The URI without what may be a signature."""
    return uri.partition("?")[0]
