"""The fast path from JSON to a matrix returns the numbers of the full path, and leaves all other bodies to it."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ProblemError
from app.model.columns import Column
from app.model.rows import Reader
from app.model.signature import Signature

COLUMNS = [Column("a", "double"), Column("b", "long")]


def both_ways(body: bytes) -> tuple[str, str]:
    """Return the results of the reader with and without the fast path: the rows or the error message."""
    found: list[str] = []
    for short in (True, False):
        signature = Signature(COLUMNS)
        signature.numeric = short
        try:
            found.append(repr(Reader(signature, 5).read(body).matrix()))
        except ProblemError as problem:
            found.append(f"{problem} {problem.errors}")
    return found[0], found[1]


def test_numbers_take_the_fast_path() -> None:
    reader = Reader(Signature(COLUMNS), 5)

    rows = reader.read(b'{"columns": ["a", "b"], "data": [[0.1, 2], [-3e5, 4.0]]}')

    assert rows.count == 2
    np.testing.assert_array_equal(rows.matrix(), np.array([[0.1, 2], [-3e5, 4]], dtype=np.float32))
    assert rows.payload() == {"columns": ["a", "b"], "data": [[0.1, 2], [-3e5, 4.0]]}
    assert reader._numbers(b'{"columns": ["a", "b"], "data": [[0.1, 2]]}') is not None


@pytest.mark.parametrize(
    "body",
    [
        '{"columns": ["b", "a"], "data": [[1, 2]]}',
        '{"columns": ["a", "b"], "data": [[1, 2], [3]]}',
        '{"columns": ["a", "b"], "data": [[1], [2, 3, 4]]}',
        '{"columns": ["a", "b"], "data": [[[1], 2]]}',
        '{"columns": ["a", "b"], "data": [[[], 1], [[2, 3], 4]]}',
        '{"columns": ["a", "b"], "data": [["1", 2]]}',
        '{"columns": ["a", "b"], "data": [[true, 2]]}',
        '{"columns": ["a", "b"], "data": [[null, 2]]}',
        '{"columns": ["a", "b"], "data": [[1, null]]}',
        '{"columns": ["a", "b"], "data": [[1, 2.5]]}',
        '{"columns": ["a", "b"], "data": [[1, 3000000000]]}',
        '{"columns": ["a", "b"], "data": [[1e39, 1]]}',
        '{"columns": ["a", "b"], "data": [[1e400, 1]]}',
        f'{{"columns": ["a", "b"], "data": [[{"9" * 400}, 1]]}}',
        '{"columns": ["a", "b"], "data": [[18446744073709551616, 1]]}',
        '{"columns": ["a", "b"], "data": [[-0, -0.0]]}',
        '{"columns": ["a", "b"], "data": ["12"]}',
        '{"columns": ["a", "b"], "data": [{"a": 1, "b": 2}]}',
        '{"columns": ["a", "b"], "data": [1, 2]}',
        '{"columns": ["a", "b"], "data": []}',
        '{"columns": ["a", "b"], "data": [[]]}',
        '{"columns": "ab", "data": [[1, 2]]}',
        '{"columns": ["a", "b"], "data": [[1, 2]], "data": [[3, 4]]}',
        '{"columns": ["a", "b"], "data": [[1, 2]], "index": [0]}',
        '{"columns": ["a", "b"], "data": [[1, 2]]} x',
        '\ufeff{"columns": ["a", "b"], "data": [[1, 2]]}',
        ' {"columns": ["a", "b"], "data": [[1, 2]]}',
        '{"columns": ["a", "b"], "data": [[1, NaN]]}',
        '{"columns": ["a", "b"], "data": ' + json.dumps([[1, 2]] * 6) + "}",
        '{"instances": [{"a": 1, "b": 2}]}',
        "[" * 5000,
        "",
    ],
)
def test_unusual_bodies_give_the_result_of_the_full_path(body: str) -> None:
    short, full = both_ways(body.encode())

    assert short == full


CELL = st.one_of(
    *(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.integers(-5, 5), st.booleans(), st.none()),
    *(st.text(max_size=2), st.lists(st.integers(0, 3), max_size=2)),
)


@given(st.lists(st.lists(CELL, max_size=3), max_size=4), st.permutations(["a", "b"]), st.booleans())
def test_random_bodies_give_the_result_of_the_full_path(data: list[Any], columns: list[str], spaced: bool) -> None:
    body = json.dumps({"columns": columns, "data": data}, separators=None if spaced else (",", ":")).encode()

    short, full = both_ways(body)

    assert short == full
