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
from app.model.typed import MOST_FIELDS

COLUMNS = [Column("a", "double"), Column("b", "long")]
MEMBERS = frozenset({"instances", "columns", "data", "index"})
# A column of each type that has a typed form.
MIXED = [
    Column("a", "double"),
    Column("b", "long"),
    Column("c", "string", categories=("x", "y", "é")),
    Column("d", "long", categories=(1, 2, 7)),
    Column("e", "boolean"),
    Column("f", "boolean", required=False),
    Column("g", "integer", required=False),
]


def both_ways(body: bytes, columns: list[Column] = COLUMNS) -> tuple[str, str]:
    """Return the results of the reader with and without the fast path: the rows or the error message."""
    found: list[str] = []
    for fast in (True, False):
        reader = Reader(Signature(columns), 5)
        if not fast:
            reader.typed.read = lambda *_: None  # type: ignore[method-assign]
        try:
            found.append(repr(reader.read(body).matrix() + 0))  # without negative zeros
        except ProblemError as problem:
            found.append(f"{problem} {problem.errors}")
    return found[0], found[1]


def is_typed(body: bytes, columns: list[Column] = COLUMNS) -> bool:
    """Return whether the body takes the fast path."""
    return Reader(Signature(columns), 5).typed.read(body, MEMBERS) is not None


def test_numbers_take_the_fast_path() -> None:
    reader = Reader(Signature(COLUMNS), 5)

    rows = reader.read(b'{"columns": ["a", "b"], "data": [[0.1, 2], [-3e5, 4.0]]}')

    assert rows.count == 2
    np.testing.assert_array_equal(rows.matrix(), np.array([[0.1, 2], [-3e5, 4]], dtype=np.float32))
    assert rows.payload() == {"columns": ["a", "b"], "data": [[0.1, 2], [-3e5, 4.0]]}
    assert is_typed(b'{"columns": ["a", "b"], "data": [[0.1, 2]]}')


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


SPLIT = '{"columns": ["a", "b"], "data": [[0.5, 2]]}'


@pytest.mark.parametrize(
    "body",
    [
        '{"columns": ["a", "b"], "index": [7], "data": [[0.5, 2]]}',
        '{"columns": ["a", "b"], "index": ["x"], "data": [[0.5, 2]]}',
        '{"columns": ["a", "b"], "index": [["x", 1]], "data": [[0.5, 2]]}',
        '{"instances": [[0.5, 2]]}',
        '{"instances": [{"a": 0.5, "b": 2}]}',
    ],
)
def test_forms_of_the_same_row_give_the_same_matrix(body: str) -> None:
    short, full = both_ways(body.encode())

    assert short == full == both_ways(SPLIT.encode())[0]


@pytest.mark.parametrize(
    "body",
    [
        '{"columns":["a","b"],"index":[0],"data":[[0.5,2]]}',
        '{"columns":["b","a"],"data":[[2,0.5]]}',
        '{"columns":["a","b"],"data":[[null,2],[1,2]]}',
        '{"instances":[{"a":0.5,"b":2},{"b":3,"a":1}]}',
        '{"instances":[{"a":null,"b":2}]}',
        '{"instances":[[0.5,2]]}',
        ' { "instances" : [ [ null , 2 ] ] } ',
    ],
)
def test_valid_bodies_take_the_fast_path(body: str) -> None:
    short, full = both_ways(body.encode())

    assert short == full
    assert is_typed(body.encode())


def test_rows_of_both_kinds_are_rejected() -> None:
    with pytest.raises(ProblemError) as caught:
        Reader(Signature(COLUMNS), 5).read(b'{"instances": [[0.5, 2], {"a": 0.5, "b": 2}]}').matrix()

    assert [each.problem for each in caught.value.errors] == ["must be a list with a value per column, not an object"]


@pytest.mark.parametrize(
    ("body", "start"),
    [
        (
            '{"dataframe_split": {}}',
            "dataframe_split belongs to MLflow's protocol: send it to /invocations. Here: Send",
        ),
        ('{"dataframe_records": []}', "dataframe_records belongs to MLflow's protocol: send it to /invocations."),
        ('{"inputs": []}', "inputs belongs to MLflow's protocol or the Open Inference Protocol: send it to /invoc"),
        ('{"rows": []}', 'Send {"instances"'),
    ],
)
def test_forms_of_other_protocols_name_their_endpoint(body: str, start: str) -> None:
    with pytest.raises(ProblemError) as caught:
        Reader(Signature(COLUMNS), 5).read(body.encode())

    assert str(caught.value).startswith(start)


@pytest.mark.parametrize("columns", [MIXED[:2], MIXED[:6], MIXED], ids=["numbers", "typed", "optional integer"])
@given(st.data())
def test_random_records_and_lists_give_the_result_of_the_full_path(columns: list[Column], data: st.DataObject) -> None:
    """Most cells fit their columns, so that most bodies take the fast path."""
    fitting = {
        "a": st.floats(-1e39, 1e39) | st.none() | st.integers(),
        "b": st.integers(-(2**31), 2**31) | st.sampled_from([2.0, 2.5]),
        "c": st.sampled_from(["x", "y", "é", None, "z"]),
        "d": st.sampled_from([1, 2.0, 7, None, 3, True]),
        "e": st.booleans(),
        "f": st.booleans() | st.none(),
        "g": st.integers(-5, 5) | st.none(),
    }
    names = [column.name for column in columns]
    cell = {name: st.one_of(*[fitting[name]] * 6, CELL) for name in names}
    rows = data.draw(st.lists(st.fixed_dictionaries(cell), min_size=1, max_size=3))
    form = data.draw(st.sampled_from(["records", "lists", "split", "reordered"]))
    order = data.draw(st.permutations(names)) if form in ("records", "reordered") else names
    lists = [[row[name] for name in order] for row in rows]
    records = [dict(zip(order, row, strict=True)) for row in lists]
    if data.draw(st.integers(0, 9)) == 0:
        records[-1].pop(order[0])
        lists[-1].pop()
    if data.draw(st.integers(0, 9)) == 0:
        records[-1]["other"] = 1
    content: dict[str, Any] = {"columns": order, "data": lists}
    if form in ("records", "lists"):
        content = {"instances": records if form == "records" else lists}
    if data.draw(st.integers(0, 9)) == 0:
        content["params"] = {}
    body = json.dumps(content, ensure_ascii=data.draw(st.booleans())).encode()

    short, full = both_ways(body, columns)

    assert short == full


def test_many_columns_take_the_fast_path() -> None:
    columns = [Column(f"f{number}", "double") for number in range(MOST_FIELDS + 1)]
    row = {column.name: number / 8 for number, column in enumerate(columns)}
    body = json.dumps({"instances": [row, dict(reversed(row.items()))]}).encode()

    short, full = both_ways(body, columns)

    assert short == full
    assert is_typed(body, columns)
    for wrong in (row | {"other": 1}, {name: row[name] for name in list(row)[1:]}, row | {"f0": "1"}):
        short, full = both_ways(json.dumps({"instances": [row, wrong]}).encode(), columns)
        assert short == full
        assert "problem" in short


def test_categories_and_booleans_take_the_fast_path() -> None:
    names = [column.name for column in MIXED]
    row = dict(zip(names, [0.5, 2, "é", 7, True, None, 1], strict=True))
    without = {name: row[name] for name in names[:6]}

    assert is_typed(json.dumps({"instances": [without]}).encode(), MIXED[:6])
    assert not is_typed(json.dumps({"instances": [row]}).encode(), MIXED)  # an optional integer is checked
    assert not is_typed(json.dumps({"instances": [without | {"c": "z"}]}).encode(), MIXED[:6])
