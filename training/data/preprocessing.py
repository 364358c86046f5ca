"""Preprocessing of training columns for XGBoost. Errors name the column and the row, counted from 1."""

import logging
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import ContractColumn, Task
from training.data.categories import numbered
from training.data.column_names import listed
from training.data.column_warnings import warn_of_lost_digits, warn_of_text_numbers
from training.data.date_columns import are_dates
from training.errors import InputError

INFERRED_CLASSES = 10  # a target with more distinct whole numbers is a quantity, unless the task is set
LONG = 2.0**63
MOST_GRADE = 31  # for rankings, because XGBoost's gain is 2^grade - 1

log = logging.getLogger(__name__)


def labelled(table: pa.Table, target: str, *, skip: bool) -> NDArray[np.bool_]:
    """Return a mask of the rows with a target, shape (rows,). Rows without one are allowed if `skip` is set.

    Raises:
        InputError: A row has no target, or no row has one.
    """
    missing = pc.is_null(table.column(target), nan_is_null=True).to_numpy()
    check_labelled(missing, target, skip=skip)
    return np.asarray(~missing)


def check_labelled(missing: NDArray[np.bool_], target: str, *, skip: bool) -> None:
    """Refuse rows that have no target, unless `skip` is set, and a table without any.

    Raises:
        InputError: A row has no target, or no row has one.
    """
    count = int(missing.sum())
    if count and not skip:
        row = int(missing.argmax()) + 1
        raise InputError(
            f"Row {row} has no value in the target column {target} ({count} in total); fill them, or leave "
            "them out with --skip-unlabelled."
        )
    if count == len(missing):
        raise InputError(f"No row has a value in the target column {target}.")


def grouped(table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows by group, and the number of the group of each row in that order.

    Raises:
        InputError: A row has no group.
    """
    column = table.column(name).combine_chunks()
    if column.null_count:
        row = int(pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False).argmax()) + 1
        raise InputError(f"Row {row} has no value in the group column {name}.")
    codes = pd.factorize(column.to_pandas())[0].astype(np.int64)  # in the order of their first rows
    order = np.argsort(codes, kind="stable")
    return order, codes[order]


def target_of(
    table: pa.Table, name: str, task: Literal["auto"] | Task, known: tuple[str, ...], positive: str
) -> tuple[Task, tuple[str, ...], NDArray[np.float32]]:
    """Return the task, the classes and the target as XGBoost takes it, shape (rows,).

    Args:
        table: Table in which each row has a target.
        name: Column of the target.
        task: Task of the model. auto infers it from the values.
        known: Classes in their order, or () for the order of their values.
        positive: Class whose probability a binary model predicts, or "" for the last class.

    Raises:
        InputError: The values do not fit the task.
    """
    column = encoded(table, name)
    numeric = not pa.types.is_dictionary(column.type)
    if numeric:
        values: Any = column.to_numpy(zero_copy_only=False)
        _finite(values, name)
        indices = values
    else:
        texts, indices = column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False)
        values = np.array(texts, dtype=object)[np.unique(indices)]
    if task == "auto":
        whole = numeric and bool((values == np.trunc(values)).all())
        few = not numeric or (whole and len(np.unique(values)) <= INFERRED_CLASSES)
        task = ("multiclass" if len(pd.unique(values)) > 2 else "binary") if few else "regression"
        log.info("task %s, inferred from the values of %s; set --task to change it", task, name)
    if task != "binary" and task != "multiclass":
        if not numeric:
            raise InputError(
                f"Row 1, column {name}: {texts[indices[0]][:50]!r} is not a number; a {task} needs numbers."
            )
        return task, (), _grades(values, name) if task == "ranking" else values.astype(np.float32)
    found = sorted(pd.unique(values).tolist())
    labels = [_label(value) for value in found]
    if len(labels) == 1:
        raise InputError(f"The target column {name} has only one class, {labels[0]}; a classifier needs at least two.")
    if (task == "binary") != (len(labels) == 2):
        more = listed(labels)
        raise InputError(f"The target column {name} has {len(labels)} classes, which is not {task}: {more}.")
    classes = known if set(known) == set(labels) else tuple(labels)
    if positive:
        if positive not in labels or task != "binary":
            raise InputError(
                f"--positive (TRAINING_POSITIVE): {positive} is not one of two classes. The classes are "
                f"{', '.join(labels)}."
            )
        classes = (*(each for each in labels if each != positive), positive)
    number_of = {value: classes.index(label) for value, label in zip(found, labels, strict=True)}
    if numeric:
        return task, classes, pd.Series(values).map(number_of).to_numpy(dtype=np.float32)
    return task, classes, np.array([number_of.get(text, -1) for text in texts], dtype=np.float32)[indices]


def encoded(table: pa.Table, name: str) -> pa.Array:
    """Return a target without missing values as numbers, or text and booleans as a dictionary of the distinct values.

    Raises:
        InputError: The column has a different type, such as dates or lists.
    """
    column = table.column(name)
    if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
        cells = column.unify_dictionaries().combine_chunks()
        return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    plain = _plain(table, name)
    if pa.types.is_floating(plain.type) or pa.types.is_integer(plain.type):
        return plain
    return plain.cast(pa.string()).dictionary_encode()  # a boolean is true or false


def feature(table: pa.Table, name: str, categorical: bool, fewest: int = 1) -> tuple[ContractColumn, "pd.Series[Any]"]:
    """Return the description of a column, and its values as float32 or as categories.

    Args:
        table: Table with the column.
        name: Name of the column.
        categorical: Whether whole numbers are categories.
        fewest: Number of rows that a category needs. The values of rarer ones are missing.

    Raises:
        InputError: All values are missing, or XGBoost does not take values of this type.
    """
    column = _plain(table, name)
    if column.null_count == len(column):
        raise InputError(f"Column {name} has no value in any row; fill it, or leave it out with --drop.")
    if pa.types.is_string(column.type):
        if not categorical:
            _unmixed(column, name)
            encoded = column.dictionary_encode()
            if are_dates(encoded.dictionary.to_pylist()):
                log.warning(
                    "column %s contains dates as text, and each date is a category; make their parts features with "
                    "--dates=%s, leave it out with --drop, or confirm the categories with --categorical",
                    name, name,
                )  # fmt: skip
            indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            warn_of_text_numbers(name, encoded.dictionary.to_pylist(), indices)
        return numbered(column, name, "string", fewest)
    if categorical and pa.types.is_integer(column.type):
        return numbered(column, name, "long", fewest)
    if categorical and pa.types.is_floating(column.type):  # integers with missing values
        values = column.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            odd = (values != np.trunc(values)) & ~np.isnan(values) | (np.abs(values) >= LONG)
        if odd.any():
            raise InputError(
                f"Row {int(odd.argmax()) + 1}, column {name}: categories must be whole numbers of at most 64 bits."
            )
        return numbered(column.cast(pa.int64()), name, "long", fewest)
    if pa.types.is_boolean(column.type):
        optional = bool(column.null_count)
        values = pc.cast(column, pa.float32()).to_numpy(zero_copy_only=False)
        return ContractColumn(name=name, type="boolean", required=not optional), pd.Series(values, dtype=np.float32)
    exact = column.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    _finite(values, name)
    warn_of_lost_digits(name, exact, values)
    return ContractColumn(name=name, type="double"), pd.Series(values)


def numbers(series: "pd.Series[Any]") -> NDArray[np.float32]:
    """Return a prepared column as numbers. A category is its position, and NaN is missing."""
    return decoded(codes(series))


def codes(series: "pd.Series[Any]") -> NDArray[Any]:
    """Return the values of a prepared column without a copy. A category is its position, and -1 is missing."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.cat.codes.to_numpy()
    return series.to_numpy(dtype=np.float32)


def decoded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values of `codes` as numbers, in which NaN is missing."""
    if np.issubdtype(values.dtype, np.integer):
        return np.where(values < 0, np.nan, values).astype(np.float32)
    return values


def _plain(table: pa.Table, name: str) -> Any:
    """Return a column as one of Arrow's plain types: string, boolean, integer or floating point.

    Raises:
        InputError: The column has a different type, such as dates or lists.
    """
    column = table.column(name).combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return column.cast(pa.float64())
    if pa.types.is_floating(kind):
        nan = pc.is_nan(column)
        return pc.if_else(nan, pa.scalar(None, kind), column) if nan.true_count else column
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column
    if pa.types.is_binary(kind):  # in CSV: Arrow's type for cells that it cannot decode
        raise InputError(
            f"Column {name} is not UTF-8 text; name its encoding with --csv-encoding, or save it as UTF-8."
        )
    if pa.types.is_temporal(kind):
        raise InputError(
            f"Column {name} contains dates or times ({kind}); make its parts features with --dates={name}, make it the "
            "--time-column, or leave it out with --drop."
        )
    raise InputError(f"Column {name} has the type {kind}; convert it to numbers or text, or leave it out with --drop.")


def _unmixed(column: Any, name: str) -> None:
    """Refuse text among numbers, because one typing error would turn each number into a category.

    Raises:
        InputError: The message contains the first text.
    """
    texts: Any = column.to_pandas()
    as_numbers = pd.to_numeric(texts, errors="coerce")
    odd = (as_numbers.isna() & texts.notna()).to_numpy()
    if odd.any() and 2 * int(odd.sum()) <= int(texts.notna().sum()):
        row = int(odd.argmax())
        raise InputError(
            f"Row {row + 1}, column {name}: {str(texts.iloc[row])[:50]!r} is text in a column of numbers; correct "
            "it, or make the column --categorical."
        )


def _finite(values: NDArray[Any], name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        infinite = np.isinf(values.astype(np.float32, copy=False))
    if infinite.any():
        row = int(infinite.argmax()) + 1
        raise InputError(f"Row {row}, column {name}: the value is infinite as a 32-bit number, which XGBoost refuses.")


def _grades(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    bad = (values < 0) | (values > MOST_GRADE) | (values != np.trunc(values))
    if bad.any():
        row = int(bad.argmax()) + 1
        raise InputError(
            f"Row {row}, column {name}: a grade of a ranking must be a whole number from 0 to {MOST_GRADE}."
        )
    return values.astype(np.float32)


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, int | float) else str(value)
