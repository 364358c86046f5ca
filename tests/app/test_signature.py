"""Rows of JSON values become float32 as the columns' types allow."""

import json
import math
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInputError
from app.signature import Column, Signature

REAL = Column("real", "double", True)
WHOLE = Column("whole", "long", True)
SMALL = Column("small", "integer", True)
FLAG = Column("flag", "boolean", True)
OPTIONAL = Column("maybe", "long", False)


def test_signature_is_read_as_mlflow_writes_it() -> None:
    inputs = [{"type": "long", "name": "maybe", "required": False}, {"type": "double", "name": "real"}]

    found = Signature.from_mlmodel({"signature": {"inputs": json.dumps(inputs)}})

    assert found.columns == (OPTIONAL, REAL)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (REAL, 1, 1.0),
        (REAL, 0.1, np.float32(0.1)),
        (REAL, None, math.nan),
        (WHOLE, 7, 7.0),
        (WHOLE, 2**40, 2.0**40),  # beyond what the fast way takes
        (FLAG, True, 1.0),
        (FLAG, False, 0.0),
        (OPTIONAL, None, math.nan),
        (OPTIONAL, 2, 2.0),
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
        (FLAG, None, "must not be null: a boolean has no missing value"),
        (SMALL, 2**31, "must fit in 32 bits"),
        (SMALL, -(2**31) - 1, "must fit in 32 bits"),
        (OPTIONAL, 0.5, "must be a whole number"),
        (WHOLE, math.inf, "must be a whole number"),
        (REAL, -math.inf, "must be finite as a 32-bit number"),
    ],
)
def test_value_is_refused(column: Column, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        Signature([REAL, column] if column is not REAL else [REAL]).from_records([{"real": 1, column.name: value}])

    assert [error.problem for error in refusal.value.errors] == [problem]


def test_optional_column_may_be_left_out_in_both_forms() -> None:
    signature = Signature([OPTIONAL, REAL])
    expected = np.array([[np.nan, 2]], dtype=np.float32)

    np.testing.assert_array_equal(signature.from_records([{"real": 2}]), expected)
    np.testing.assert_array_equal(signature.from_split(["real"], [[2]]), expected)


def test_one_null_changes_no_other_value() -> None:
    signature, rows = Signature([REAL, WHOLE]), np.random.default_rng(0).normal(size=50).tolist()
    fast = signature.from_split(["real", "whole"], [[value, 3] for value in rows])

    slow = signature.from_split(["real", "whole"], [[value, 3] for value in rows] + [[None, 3]])

    np.testing.assert_array_equal(slow[:-1], fast)
