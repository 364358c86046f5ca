"""Validation of JSON values by column type, and their conversion to float32."""

import math
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInputError
from app.model.columns import Column
from app.model.signature import Signature

REAL = Column("real", "double", True)
WHOLE = Column("whole", "long", True)
SMALL = Column("small", "integer", True)
FLAG = Column("flag", "boolean", True)
OPTIONAL = Column("maybe", "long", False)
COLOUR = Column("colour", "string", True, ("red", "blue"))
FLOOR = Column("floor", "long", False, (0, 1, 7))


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (REAL, 1, 1.0),
        (REAL, 0.1, np.float32(0.1)),
        (REAL, None, math.nan),
        (WHOLE, 7, 7.0),
        (WHOLE, 2**40, 2.0**40),  # beyond the fast path
        (WHOLE, 2**60 + 2**36 + 1, 2.0**60 + 2.0**37),  # rounded once; through float64 it would be 2**60
        (OPTIONAL, -(2**60) - 2**36 - 1, -(2.0**60) - 2.0**37),
        (FLAG, True, 1.0),
        (FLAG, False, 0.0),
        (OPTIONAL, None, math.nan),
        (OPTIONAL, 2, 2.0),
        (COLOUR, "blue", 1.0),
        (COLOUR, None, math.nan),
        (FLOOR, 7, 2.0),
        (FLOOR, 7.0, 2.0),
        (FLOOR, None, math.nan),
    ],
)
def test_value_is_converted(column: Column, value: Any, expected: float) -> None:
    found = Signature([column]).from_records([{column.name: value}])

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[expected]], dtype=np.float32))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        (FLAG, 1, "must be true or false, not a number"),
        (FLAG, None, "must not be null: the type boolean has no missing values"),
        (SMALL, 2**31, "must fit in 32 bits"),
        (SMALL, -(2**31) - 1, "must fit in 32 bits"),
        (OPTIONAL, 0.5, "must be a whole number"),
        (WHOLE, math.inf, "must be a whole number"),
        (REAL, -math.inf, "must be finite as a 32-bit number"),
        (COLOUR, "green", 'must be one of the model\'s categories: "red", "blue"'),
        (COLOUR, 1, 'must be one of the model\'s categories: "red", "blue"'),
        (COLOUR, ["red"], 'must be one of the model\'s categories: "red", "blue"'),
        (FLOOR, True, "must be one of the model's categories: 0, 1, 7"),
        (FLOOR, 2, "must be one of the model's categories: 0, 1, 7"),
        (FLOOR, "1", "must be one of the model's categories: 0, 1, 7"),
    ],
)
def test_invalid_value_is_rejected(column: Column, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        Signature([REAL, column] if column is not REAL else [REAL]).from_records([{"real": 1, column.name: value}])

    assert [error.problem for error in refusal.value.errors] == [problem]


def test_optional_column_may_be_left_out_in_both_forms() -> None:
    signature = Signature([OPTIONAL, REAL])
    expected = np.array([[np.nan, 2]], dtype=np.float32)

    np.testing.assert_array_equal(signature.from_records([{"real": 2}]), expected)
    np.testing.assert_array_equal(signature.from_split(["real"], [[2]]), expected)


def test_null_changes_no_other_value() -> None:
    signature, rows = Signature([REAL, WHOLE]), np.random.default_rng(0).normal(size=50).tolist()
    fast = signature.from_split(["real", "whole"], [[value, 3] for value in rows])

    slow = signature.from_split(["real", "whole"], [[value, 3] for value in rows] + [[None, 3]])

    np.testing.assert_array_equal(slow[:-1], fast)
