"""Tables of a segment: its predictions with one column per input, and its labels, by day.

The columns are documented in docs/how-to/inference-log.md.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.columns import INTEGER_BITS, NESTED, REALS
from app.monitoring.segments import (
    LoggedColumn,
    LoggedLabel,
    LoggedLabels,
    LoggedModel,
    LoggedPredictions,
    blocks,
    identities,
)
from training.data.inference_log import INPUT, LABELS, PREDICTIONS

_MOMENT = pa.timestamp("us", "UTC")
_LARGEST_INTEGER = float(2**63 - 1024)  # the largest 64-bit float that fits


@dataclass(frozen=True)
class Part:
    """The rows of one file.

    Args:
        kind: PREDICTIONS or LABELS.
        day: Day of the rows in UTC, as YYYY-MM-DD.
        model: Number of the model in the segment, 0 for labels.
        table: The rows.
    """

    kind: str
    day: str
    model: int
    table: pa.Table


def parts_of(segment: bytes) -> Iterator[Part]:
    """Yield the files that belong to a segment; the same ones each time."""
    models: dict[int, LoggedModel] = {}
    found: dict[tuple[str, int], list[pa.Table]] = {}
    for block in blocks(segment):
        if isinstance(block, LoggedModel):
            models[block.number] = block
        elif isinstance(block, LoggedPredictions):
            found.setdefault((PREDICTIONS, block.model), []).append(predictions_of(models[block.model], block))
        else:
            found.setdefault((LABELS, 0), []).append(labels_of(block))
    for (kind, model), tables in found.items():
        table = pa.concat_tables(tables)
        days = pc.strftime(table["time"], format="%Y-%m-%d")
        for day in sorted(pc.unique(days).to_pylist()):
            yield Part(kind, day, model, table.filter(pc.equal(days, day)))


def labels_of(block: LoggedLabels) -> pa.Table:
    """Return a row for each label."""
    labels: Sequence[LoggedLabel] = block.labels
    return pa.table(
        {
            "time": _times(np.array([each.time for each in labels])),
            "prediction_id": pa.array([each.prediction_id for each in labels], pa.string()),
            "label_class": pa.array([_or_none(each.label, str) for each in labels], pa.string()),
            "label_number": pa.array([_or_none(each.label, float) for each in labels], pa.float64()),
            "model_name": pa.array([each.name for each in labels], pa.string()),
            "model_version": pa.array([each.version for each in labels], pa.string()),
            "request_id": pa.array([each.request_id or None for each in labels], pa.string()),
            "owner": pa.array([each.owner or None for each in labels], pa.string()),
        }
    )


def predictions_of(model: LoggedModel, block: LoggedPredictions) -> pa.Table:
    """Return a row for each predicted row."""
    counts = np.frombuffer(block.counts, np.uint32).astype(np.int64)
    total = int(counts.sum())
    requests = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts

    def each(values: Sequence[str]) -> pa.Array:
        return pa.array([value or None for value in values], pa.string()).take(pa.array(requests))

    columns: dict[str, Any] = {
        "time": _times(np.frombuffer(block.times, np.float64)[requests]),
        "request_id": each(block.request_ids),
        "row": pa.array((np.arange(total) - first[requests]).astype(np.int32)),
        "prediction_id": pa.array(_identities(block.tokens, counts), pa.string()),
        "owner": each(block.owners),
        **{f"model_{name}": pa.repeat(getattr(model, name), total) for name in ("name", "version", "sha256")},
        "latency_seconds": pa.array(np.frombuffer(block.seconds, np.float32)[requests]),
    }
    if block.cells:
        rows = [row for cells in block.cells for row in json.loads(cells)]
        for place, column in enumerate(model.columns):
            columns[INPUT + column.name] = _from_cells(column, [row[place] for row in rows])
    else:
        matrix = np.frombuffer(block.matrix, np.float32).reshape(total, len(model.columns))
        for place, column in enumerate(model.columns):
            columns[INPUT + column.name] = _from_numbers(column, matrix[:, place])
    if block.values:
        columns |= _from_values(model, [value for values in block.values for value in json.loads(values)])
    else:
        numbers = np.frombuffer(block.numbers, np.float32).reshape(total, -1)
        columns |= _from_outputs(model, numbers)
    return pa.table(columns)


def _times(seconds: NDArray[np.float64]) -> pa.Array:
    return pa.array(np.round(seconds * 1e6).astype(np.int64)).cast(_MOMENT)


def _identities(tokens: Sequence[str], counts: NDArray[np.int64]) -> list[str | None]:
    found: list[str | None] = []
    for text, count in zip(tokens, counts.tolist(), strict=True):
        found += identities(text) if text else [None] * count
    return found


def _or_none(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) else None


def _type(column: LoggedColumn) -> pa.DataType:
    """Return the type of a column in the files. Values that are not single numbers or texts are JSON."""
    if column.shape or column.type in NESTED:
        return pa.string()
    if column.type in INTEGER_BITS:
        return pa.int64()
    if column.type in REALS:
        return pa.float32() if column.narrow else pa.float64()
    return pa.bool_() if column.type == "boolean" else pa.string()


def _from_numbers(column: LoggedColumn, values: NDArray[np.float32]) -> pa.Array:
    """Return a column from what the booster has received: 32-bit numbers or codes of categories."""
    kind, missing = _type(column), np.isnan(values)
    known = np.where(missing, 0, values)
    if column.categories:
        codes = pa.array(known.astype(np.int32), mask=missing)
        return pa.array(list(column.categories)).cast(kind).take(codes)
    if pa.types.is_integer(kind):
        whole = np.clip(known.astype(np.float64), -_LARGEST_INTEGER, _LARGEST_INTEGER)
        return pa.array(whole.astype(np.int64), mask=missing)
    if pa.types.is_boolean(kind):
        return pa.array(known != 0, mask=missing)
    return pa.array(values, mask=missing).cast(kind)


def _from_cells(column: LoggedColumn, cells: Sequence[Any]) -> pa.Array:
    """Return a column from JSON values."""
    kind = _type(column)
    convert: Any = str
    if column.shape or column.type in NESTED:
        convert = json.dumps
    elif pa.types.is_integer(kind):
        convert = int
    elif pa.types.is_floating(kind):
        convert = float
    elif pa.types.is_boolean(kind):
        convert = bool
    return pa.array([None if cell is None else convert(cell) for cell in cells], kind)


def _from_outputs(model: LoggedModel, numbers: NDArray[np.float32]) -> dict[str, pa.Array]:
    """Return the columns of a booster's numbers, shape (rows, width)."""
    classes = pa.array(list(model.classes), pa.string())
    if model.form == "number":
        return {"prediction": pa.array(numbers[:, 0])}
    if model.form == "numbers":
        return {f"prediction_{place}": pa.array(column) for place, column in enumerate(numbers.T.copy())}
    if model.form == "label":
        return {"prediction": classes.take(pa.array(numbers[:, 0].astype(np.int32)))}
    if model.task == "binary" and model.width == 1:
        numbers = np.stack([1 - numbers[:, 0], numbers[:, 0]], axis=1)
    # The first of two equal probabilities wins, as in the service.
    found = {"prediction": classes.take(pa.array(numbers.argmax(axis=1).astype(np.int32)))}
    shares = zip(model.classes, numbers.T.copy(), strict=True)
    return found | {f"probability_{name}": pa.array(column) for name, column in shares}


def _from_values(model: LoggedModel, values: Sequence[Any]) -> dict[str, pa.Array]:
    """Return the columns of the JSON predictions of a model of another flavor."""
    if model.form == "number":
        return {"prediction": pa.array(values, pa.float64())}
    if model.form == "numbers":
        return {
            f"prediction_{place}": pa.array([value[place] for value in values], pa.float64())
            for place in range(model.width)
        }
    if model.form == "record":
        return {
            f"prediction_{name}": pa.array([_text(value[name]) for value in values], pa.string())
            for name in model.names
        }
    found = {"prediction": pa.array([value["label"] for value in values], pa.string())}
    if model.form == "probabilities":
        for name in model.classes:
            found[f"probability_{name}"] = pa.array([value["probabilities"][name] for value in values], pa.float64())
    return found


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
