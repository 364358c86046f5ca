"""The deletion of one subject's rows from an inference log: their files are written again without them."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from training.data.inference_log import LABELS, PREDICTIONS
from training.data.log_store import LogStore
from training.errors import InputError


def erase(store: LogStore, column: str, values: Sequence[str]) -> dict[str, int]:
    """Delete the predictions with one of the values in a column, and the labels of these predictions.

    Args:
        store: The log.
        column: Column of the predictions, such as input_customer, owner or request_id.
        values: Values of the subject.

    Returns:
        The number of deleted rows, by kind.

    Raises:
        InputError: No file has the column, or a value does not have its type.
        TrainingError: The place of the log is unreachable. Run it again: what is deleted stays deleted.
    """
    identities: set[str] = set()
    rows = {PREDICTIONS: 0, LABELS: 0}
    seen = False
    for name in store.names(PREDICTIONS):
        table = _read(store, name)
        if column not in table.column_names:
            continue
        seen = True
        of_subject = _matches(table, column, values)
        identities.update(filter(None, table.filter(of_subject)["prediction_id"].to_pylist()))
        rows[PREDICTIONS] += _keep(store, name, table, of_subject)
    if not seen:
        raise InputError(f"--column (TRAINING_COLUMN): no file of {store.uri} has the column {column}.")
    for name in store.names(LABELS):
        table = _read(store, name)
        of_subject = pc.is_in(table["prediction_id"], pa.array(sorted(identities), pa.string()))
        if column in table.column_names:
            of_subject = pc.or_(of_subject, _matches(table, column, values))
        rows[LABELS] += _keep(store, name, table, of_subject)
    return rows


def _read(store: LogStore, name: str) -> pa.Table:
    return parquet.read_table(io.BytesIO(store.get(name)), partitioning=None)


def _matches(table: pa.Table, column: str, values: Sequence[str]) -> pa.ChunkedArray:
    kind = table.schema.field(column).type
    try:
        wanted = pa.array(list(values), pa.string()).cast(kind)
    except pa.ArrowInvalid:
        raise InputError(
            f"--values (TRAINING_VALUES): the column {column} has the type {kind}, and a value does not."
        ) from None
    return pc.is_in(table[column], wanted)


def _keep(store: LogStore, name: str, table: pa.Table, of_subject: pa.ChunkedArray) -> int:
    """Write a file again without the rows of the subject, and return their number."""
    kept = table.filter(pc.invert(of_subject))
    count = int(table.num_rows - kept.num_rows)
    if not kept.num_rows:
        store.delete(name)
    elif count:
        buffer = io.BytesIO()
        parquet.write_table(kept, buffer, compression="zstd")
        store.put(name, buffer.getvalue())
    return count
