"""Cells of a data set are validated like the same cells in a request."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.model.columns import Column
from app.model.signature import Signature
from training.data.model_matrix import encode

COLUMNS = (
    Column("real", "double"),
    Column("whole", "long"),
    Column("small", "integer", required=False),
    Column("flag", "boolean"),
    Column("colour", "string", categories=("red", "grün", "")),
    Column("floor", "long", categories=(1, 2, 7)),
)
REALS = st.none() | st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "real": REALS,
    "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
    "small": st.none() | st.integers(-(2**31) - 3, 2**31 + 3) | st.floats(-9, 9),
    "flag": st.none() | st.booleans(),
    "colour": st.none() | st.sampled_from(["red", "grün", "", "blue", "Red"]),
    "floor": st.none() | st.sampled_from([1, 2, 7, 3, -1]),
}


def arrow(name: str, values: list[Any]) -> pa.Array:
    """Return cells with the type of a Parquet column."""
    if name in ("real", "small") or (None in values and name == "floor"):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array(values, {"whole": pa.int64(), "flag": pa.bool_(), "colour": pa.string(), "floor": pa.int64()}[name])


def judged(rows: list[dict[str, Any]]) -> tuple[Any, set[tuple[Any, Any]]]:
    """Return the matrix that the service builds from rows, or the places of its errors."""
    try:
        return Signature(COLUMNS).from_records(rows), set()
    except InvalidInputError as refused:
        return None, {(error.row, error.column) for error in refused.errors}  # all errors of 3 rows are listed


@settings(max_examples=150)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=3))
def test_cells_are_validated_as_in_a_request(rows: list[dict[str, Any]]) -> None:
    table = pa.table({name: arrow(name, [row[name] for row in rows]) for name in CELLS})
    seen = [{name: table[name][i].as_py() for name in CELLS} for i in range(len(rows))]

    matrix, bad, reasons = encode(table, COLUMNS, text=False)

    wanted, places = judged(seen)
    assert {(each.row, each.column) for each in reasons} == places
    assert set(np.flatnonzero(bad).tolist()) == {row for row, _ in places}
    if wanted is not None:
        np.testing.assert_array_equal(matrix, wanted)


@pytest.mark.parametrize("text", [False, True])
def test_large_integer_is_rounded_once(text: bool) -> None:
    large = 2**60 + 2**36 + 1  # through float64, it would be 2**60
    cells = pa.array([str(large), None] if text else [large, None])

    matrix, bad, _ = encode(pa.table({"whole": cells}), (Column("whole", "long", required=False),), text=text)

    assert not bad.any()
    assert matrix[0, 0] == 2.0**60 + 2.0**37
    assert np.isnan(matrix[1, 0])


@settings(max_examples=100)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=3))
def test_text_is_validated_as_the_number_that_it_spells(rows: list[dict[str, Any]]) -> None:
    text = pa.table({name: pa.array([_spelled(row[name]) for row in rows], pa.string()) for name in CELLS})

    matrix, _, reasons = encode(text, COLUMNS, text=True)

    wanted, places = judged(rows)
    assert {(each.row, each.column) for each in reasons} == places
    if wanted is not None:
        np.testing.assert_array_equal(matrix, wanted)


def _spelled(value: Any) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("name", "cells", "problem"),
    [
        ("real", pa.array(["12", "x"]), "must be a number, not a string"),
        ("real", pa.array([True, False]), "must be a number, not a boolean"),
        ("flag", pa.array([0, 1]), "must be true or false, not a number"),
        ("whole", pa.array([1.0, 1.5]), "must be a whole number"),
        ("whole", pa.array([1, None]), "must not be null: the type long has no missing values"),
        ("real", pa.array([1.0, math.inf]), "must be finite as a 32-bit number"),
        ("colour", pa.array(["red", "violet"]), 'must be one of the model\'s categories: "red", "grün", ""'),
        ("colour", pa.array(["red", "violet"]).dictionary_encode(), "must be one of the model's categories"),
    ],
)
def test_bad_cell_is_named(name: str, cells: pa.Array, problem: str) -> None:
    column = next(each for each in COLUMNS if each.name == name)

    _, bad, reasons = encode(pa.table({name: cells}), [column], text=False)

    assert bad[-1]
    last = list(reasons)[-1]
    assert (last.row, last.column) == (1, name)
    assert last.problem.startswith(problem)


def test_dictionary_may_have_another_order_and_unused_categories() -> None:
    colour = COLUMNS[4]
    cells = pa.DictionaryArray.from_arrays([1, 0, None], ["grün", "red", "violet"])

    matrix, bad, _ = encode(pa.table({"colour": cells}), [colour], text=False)

    assert not bad.any()
    np.testing.assert_array_equal(matrix[:, 0], np.array([0, 1, np.nan], dtype=np.float32))


def test_optional_column_may_be_left_out() -> None:
    matrix, bad, _ = encode(pa.table({"real": [1.0, 2.0]}), [COLUMNS[0], COLUMNS[2]], text=False)

    assert not bad.any()
    assert np.isnan(matrix[:, 1]).all()
