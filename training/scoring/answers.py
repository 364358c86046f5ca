"""Rows of a data set as the input of a model, and its answers to them, for a model of any flavor."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.model.base import Model
from app.model.booster import BoosterError
from app.model.output import Output
from app.model.pyfunc import PyfuncModel
from app.model.pyfunc_outputs import Table, labels_of, numbers_of
from app.model.signature import Cells
from app.model.worker_connection import ModelError
from app.model.xgboost import BoosterModel
from training.data.chunks import Chunk
from training.data.model_cells import cells_of
from training.data.model_matrix import Bad, Mask, encode

CALL_ROWS = 1000  # of one call of a worker: more rows cost as much each, and take longer than its time limit


@dataclass(frozen=True)
class Answers:
    """Answers to the rows of a table.

    Args:
        output: Form and meaning of an answer.
        numbers: Numbers in the order of `output`, shape (rows, width). A booster's labels are positions of classes.
            None for labels and records of other models.
        values: Output of a model of another flavor. None for a booster.
    """

    output: Output
    numbers: NDArray[Any] | None
    values: Table | None = None

    def labels(self) -> list[str]:
        """Return the label of each row of the form label."""
        if self.values is not None:
            return labels_of(self.values, self.output)
        return [self.output.classes[int(number)] for number in cast(Any, self.numbers)[:, 0].tolist()]


def encoded(
    model: Model, chunk: Chunk, null_words: Sequence[str], unseen: Counter[str] | None = None
) -> tuple[Cells, Mask, Iterator[Bad]]:
    """Return the rows as the model takes them, a mask of the bad rows, and their cells.

    Args:
        model: The model.
        chunk: Rows of the data set.
        null_words: Words that stand for a missing value.
        unseen: Receives the number of unknown categories that are taken as missing, by column.
    """
    columns = model.signature.columns
    if isinstance(model, BoosterModel):
        return encode(chunk.table, columns, text=chunk.text, null_words=null_words, unseen=unseen)
    return cells_of(chunk.table, columns, text=chunk.text, null_words=null_words)


def answers_of(model: Model, rows: Cells) -> Answers:
    """Return the answers of the model to rows that `encoded` returned.

    Raises:
        BoosterError, ModelError: The model failed, or its answers are not usable.
        ProblemError: The process of the model ended, or it rejects the rows.
    """
    if isinstance(model, BoosterModel):
        found = model.numbers(rows)
        if not np.isfinite(found).all():
            raise BoosterError("its output is not finite")
        return Answers(model.output, found)
    worked = cast(PyfuncModel, model)
    parts = [
        worked.submit(rows[start : start + CALL_ROWS], worked.signature.defaults).result().table
        for start in range(0, len(rows), CALL_ROWS)
    ]
    table = Table(parts[0].names, np.concatenate([each.values for each in parts]))
    try:
        return Answers(worked.output, _numbers(table, worked.output), table)
    except ValueError as error:
        raise ModelError(str(error)) from None


def _numbers(table: Table, output: Output) -> NDArray[Any] | None:
    """Return the numbers of an output, None if it consists of labels or records.

    Raises:
        ValueError: A number is not finite, a label is not a class, or the form differs from `output`.
    """
    values = table.values
    if values.shape[1] != output.width:
        raise ValueError(f"its output has {values.shape[1]} values per row instead of {output.width}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("its output is not finite")
    if output.form == "label":
        labels_of(table, output)
        return None
    return None if output.form == "record" else numbers_of(table, output)


def filled(model: Model, rows: Cells, bad: Mask) -> Cells:
    """Return rows that the model can take: a bad row of a model of another flavor becomes a copy of a good one."""
    if isinstance(model, BoosterModel) or not bad.any():
        return rows
    if bad.all():
        example = cast(dict[str, Any], model.example)
        good = model.signature.from_split(example["columns"], example["data"])[0]
    else:
        good = rows[int(np.argmin(bad))]
    rows = rows.copy()
    rows[bad] = good
    return rows


def prediction_columns(answers: Answers) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns that match the service's response: `prediction`, and the probabilities of classes."""
    output, numbers = answers.output, answers.numbers
    if output.form == "record":
        for place, name in enumerate(output.names):
            yield f"prediction_{name}", pa.array(cast(Table, answers.values).values[:, place].tolist())
    elif output.form == "label":
        if numbers is None:
            yield "prediction", pa.array(answers.labels(), pa.string()).dictionary_encode()
        else:
            yield "prediction", _labels(numbers[:, 0].astype(np.int32), output.classes)
    elif numbers is None or output.form == "number":
        yield "prediction", pa.array(cast(Any, numbers)[:, 0])
    elif output.form == "numbers":
        for i in range(output.width):
            yield f"prediction_{i}", pa.array(np.ascontiguousarray(numbers[:, i]))
    else:
        pairs = output.task == "binary" and output.width == 1
        shares = np.stack([1 - numbers[:, 0], numbers[:, 0]], axis=1) if pairs else numbers
        # The first of two equal probabilities wins, as in the service.
        yield "prediction", _labels(shares.argmax(axis=1).astype(np.int32), output.classes)
        for i, name in enumerate(output.classes):
            yield f"probability_{name}", pa.array(np.ascontiguousarray(shares[:, i]))


def prediction_names(output: Output) -> list[str]:
    """Return the names of the columns of `prediction_columns`."""
    if output.form == "record":
        return [f"prediction_{name}" for name in output.names]
    empty = Answers(output, np.zeros((0, output.width), dtype=np.float32))
    return [name for name, _ in prediction_columns(empty)]


def _labels(numbers: Any, classes: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers), list(classes))
