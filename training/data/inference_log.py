"""Tables of an inference log: its predictions with a label, to train on, or what was asked, to describe."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from training.data.log_store import LogStore
from training.errors import InputError

INPUT = "input_"  # prefix of the columns of the model in the files
PREDICTIONS, LABELS = "predictions", "labels"  # folders of a log
LABEL, IDENTITY, TIME = "label", "prediction_id", "logged_at"  # columns of the table in addition to those of the model

_SCHEME = "log:"
_LABEL_COLUMNS = ["time", "prediction_id", "label_class", "label_number"]


@dataclass(frozen=True)
class Labelled:
    """Labelled predictions.

    Args:
        table: A row for each labelled prediction, by the time of the prediction: the columns of the model, the label,
            `IDENTITY` and `TIME`.
        sha256: Digest of the files, as the output of `sha256sum` would have it.
        files: Digest of each file with one of the rows, by its path in the log.
    """

    table: pa.Table
    sha256: str
    files: Mapping[str, str]


def source_of(uri: str, until: str, label: str) -> str:
    """Return the name of a table, which is recorded to reload the same rows from a log that grows.

    Args:
        uri: Place of the log.
        until: Time in ISO 8601. Later labels do not belong to the table.
        label: Name of the column of the label.
    """
    return f"{_SCHEME}{uri}?{urlencode({'until': until, 'label': label})}"


def is_log(source: str) -> bool:
    """Return whether a source is the name of such a table."""
    return source.startswith(_SCHEME)


def labelled(source: str) -> Labelled:
    """Return the predictions that had a label at a time, with their last one.

    Raises:
        InputError: There is none, or the log contains several models or kinds of labels.
        TrainingError: The place of the log is unreachable.
    """
    uri, _, query = source.removeprefix(_SCHEME).rpartition("?")
    options = parse_qs(query)
    until, name = datetime.fromisoformat(options["until"][0]).astimezone(UTC), options["label"][0]
    store, files = LogStore(uri), dict[str, str]()
    labels = _labels(store, until, files)
    tables, models = [], set[str]()
    for path, content, table in _tables(store, PREDICTIONS):
        found = table.filter(pc.is_in(table["prediction_id"], labels["prediction_id"]))
        if found.num_rows:
            files[path] = hashlib.sha256(content).hexdigest()
            models.update(pc.unique(found["model_name"]).to_pylist())
            tables.append(_inputs(found, name))
    if not tables:
        raise InputError(
            f"--from-log (TRAINING_FROM_LOG): {uri} has no prediction with a label until {until.isoformat()}: send "
            "labels to POST /feedback, and wait until they are shipped."
        )
    if len(models) > 1:
        raise InputError(
            f"--from-log (TRAINING_FROM_LOG): {uri} contains several models ({', '.join(sorted(models))}): give each "
            "release a folder of its own."
        )
    whole = pa.concat_tables(tables, promote_options="permissive")
    whole = whole.join(_named(labels, name, uri), IDENTITY).sort_by([(TIME, "ascending"), (IDENTITY, "ascending")])
    lines = "".join(f"{files[path]}  {path}\n" for path in sorted(files))
    return Labelled(whole, hashlib.sha256(lines.encode()).hexdigest(), files)


def asked(uri: str, rows: int) -> pa.Table:
    """Return the columns of the model in the newest predictions, up to a number of rows.

    Raises:
        InputError: There is none.
        TrainingError: The place of the log is unreachable.
    """
    tables: list[pa.Table] = []
    for _, _, table in _tables(LogStore(uri), PREDICTIONS, newest=True):
        tables.append(_inputs(table, LABEL).drop_columns([IDENTITY, TIME]))
        if sum(each.num_rows for each in tables) >= rows:
            break
    if not tables:
        raise InputError(f"--from-log (TRAINING_FROM_LOG): {uri} has no predictions.")
    return pa.concat_tables(tables, promote_options="permissive").slice(0, rows)


def _tables(store: LogStore, kind: str, *, newest: bool = False) -> Iterator[tuple[str, bytes, pa.Table]]:
    for path in sorted(store.names(kind), reverse=newest):
        content = store.get(path)
        try:
            yield path, content, parquet.read_table(io.BytesIO(content), partitioning=None)
        except pa.ArrowInvalid:
            raise InputError(f"{store.uri}/{path} is not a Parquet file of an inference log: remove it.") from None


def _labels(store: LogStore, until: datetime, files: dict[str, str]) -> pa.Table:
    """Return the last label of each prediction, and add the files that contain labels."""
    tables = [pa.table({name: pa.array([], pa.string()) for name in ["prediction_id"]})]
    for path, content, table in _tables(store, LABELS):
        found = table.select(_LABEL_COLUMNS)
        found = found.filter(pc.less_equal(found["time"], pa.scalar(until, found["time"].type)))
        if found.num_rows:
            files[path] = hashlib.sha256(content).hexdigest()
            tables.append(found)
    whole = pa.concat_tables(tables, promote_options="default")
    if len(tables) == 1:
        return whole
    whole = whole.sort_by([("time", "ascending"), ("prediction_id", "ascending")])
    last = {identity: row for row, identity in enumerate(whole["prediction_id"].to_pylist())}
    return whole.take(pa.array(sorted(last.values())))


def _named(labels: pa.Table, name: str, uri: str) -> pa.Table:
    """Return the identities and the labels, which are all classes or all numbers."""
    classes, numbers = labels["label_class"], labels["label_number"]
    if classes.null_count < len(labels) and numbers.null_count < len(labels):
        raise InputError(f"--from-log (TRAINING_FROM_LOG): the labels of {uri} are classes and numbers.")
    return pa.table({IDENTITY: labels["prediction_id"], name: numbers if classes.null_count else classes})


def _inputs(table: pa.Table, label: str) -> pa.Table:
    """Return the columns of the model by their own names, with the identity and the time of each row."""
    inputs = [name for name in table.column_names if name.startswith(INPUT)]
    for name in (label, IDENTITY, TIME):
        if INPUT + name in inputs:
            raise InputError(f"--from-log (TRAINING_FROM_LOG): the model has a column {name}, which the log adds.")
    columns = {name.removeprefix(INPUT): table[name] for name in inputs}
    return pa.table({**columns, IDENTITY: table["prediction_id"], TIME: table["time"]})
