"""Large bodies that are parsed in pieces give the results of bodies that are parsed at once."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from app.endpoints.protocols.mlflow.forms import numbers_of_csv
from app.errors import ProblemError, TooLargeError
from app.model import pieces
from app.model.columns import Column
from app.model.rows import Reader
from app.model.signature import Signature

MOST = 40
COLUMNS = [Column("a", "double"), Column("b", "long")]
MIXED = [
    Column("a", "double"),
    Column("c", "string", categories=("x", "},{", "],[", '"data":[[')),
    Column("o", "boolean"),
]
LISTS: list[list[Any]] = [[0.5, 1], [1.5, 2], [-3, 4], [2.5, 7]]
SWAPPED = [row[::-1] for row in LISTS]
RECORDS: list[Any] = [dict(zip("ab", row, strict=True)) for row in LISTS]
CATEGORIES: list[list[Any]] = [[0.5, "},{", True], [1, "],[", False], [2, '"data":[[', True], [3, "x", False]]
BODIES: list[Any] = [
    {"instances": RECORDS},
    {"instances": LISTS},
    {"columns": ["a", "b"], "data": LISTS},
    {"columns": ["b", "a"], "data": SWAPPED},
    {"columns": ["a", "b"], "index": [0, 1, 2, 3], "data": LISTS},
    {"columns": ["a", "b"], "data": LISTS, "index": [[0, 1], [2, 3]]},
    {"data": LISTS, "columns": ["a", "b"]},
    {"dataframe_split": {"columns": ["a", "b"], "data": LISTS}},
    {"dataframe_split": {"columns": ["a", "b"], "data": LISTS}, "more": 1},
    {"dataframe_records": RECORDS},
    {"dataframe_records": LISTS},
    {"inputs": RECORDS},
    {"inputs": {"a": [1, 2], "b": [3, 4]}},
    {"instances": {"instances": LISTS}},
    {"instances": {"columns": ["a", "b"], "data": LISTS}},
    {"inputs": {"data": LISTS}},
    {"columns": ["a", "b"], "data": RECORDS},
    {"columns": {"a": 1}, "data": LISTS},
    {"columns": ["a", "b"], "data": [*LISTS, [None, 1]]},
    {"columns": ["a", "b"], "data": [*LISTS, [1]]},
    {"columns": ["a", "b"], "data": [*LISTS, [1, "x"]]},
    {"columns": ["a", "b"], "data": [*LISTS, [[1, 2], [3, 4]]]},
    {"instances": [*RECORDS, {"a": 1}]},
    {"instances": [*RECORDS, {"a": 1, "b": 2.5}]},
    {"instances": [*RECORDS, {"a": {"b": [{}, {}]}, "b": 1}]},
    {"instances": [*RECORDS, [1, 2]]},
    {"instances": [*LISTS, {"a": 1, "b": 2}]},
    {"instances": [*RECORDS, 1]},
    {"instances": RECORDS, "params": {}},
    {"params": {}, "instances": RECORDS},
    {"columns": ["a", "c", "o"], "data": CATEGORIES},
    {"instances": [dict(zip("aco", row, strict=True)) for row in CATEGORIES]},
    {"instances": [dict(zip("aco", row, strict=True)) for row in CATEGORIES] + [{"a": 1, "c": "?", "o": True}]},
    {'x"instances': LISTS},
    {"columns": ["a", '"data":[['], "data": LISTS},
]
TEXTS = [
    b'{"instances":[{"a":1,"b":2},{"a":1,"b":2}',
    b'{"instances":[{"a":1,"b":2},{"a":1,"b":2}]',
    b'{"instances":[{"a":1,"b":2},{"a":1,"b":2},]}',
    b'{"instances":[{"a":1,"b":2},,{"a":1,"b":2}]}',
    b'{"instances":[{"a":1,"b":2}{"a":1,"b":2}]}',
    b'{"instances":[{"a":1,"b":2} , \n {"a":1,"b":2}\t]\r\n} ',
    b'{"instances":[{"a":1,"b":2},{"a":1,"b":2}]}}',
    b'{"instances":[[1,2],[3,4]],"instances":[[5,6],[7,8]]}',
    b'{"instances":[],"instances":[[5,6],[7,8]]}',
    b'{"instances":[[1,2]],"x\\"instances":[[5,6],[7,8]]}',
    b'{"instances":[],"x\\"instances":[[5,6],[7,8]]}',
    b'{"\\u0069nstances":[[1,2]],"instances":[[5,6],[7,8]]}',
    b'{"a":1,"b":{"data":[]},"a":{"data":[[5,6],[7,8]]}}',
    b'{"columns":["a","b"],"data":[[1,2],[3,4]]]}',
    b'{"columns":["a","b"],"data":[[1,2],[3,4]],"data":[[5,6],[7,8]]}',
    b'{"columns":["a","b"],"data":[[1,2],[3,NaN]]}',
    b'{"columns":["a","b"],"data":[[1,2],[3,1e999]]}',
    b'{"columns":["a","b"],"data":[[1,2],[3,4 4]]}',
    b'\xef\xbb\xbf{"columns":["a","b"],"data":[[1,2],[3,4]]}',
    b'{"columns":["a","b"],"data":[[1,2],[3,4]]}\x00',
    b'[{"instances":[[1,2],[3,4]]}]',
]
values = st.recursive(
    st.sampled_from([0, 1, 2.5, None, True, "x", "],[", "},{", '"', "\\", '"instances":[{', 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", '"data":[[']), inner, max_size=3)
    ),
    max_leaves=8,
)
rows = st.lists(st.sampled_from([*LISTS, *RECORDS]) | values, max_size=6)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of one row each, for bodies of any size."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)


def outcome(body: bytes, columns: list[Column], *, fast: bool = True) -> str:
    reader = Reader(Signature(columns), MOST)
    if not fast:
        reader.typed.read = lambda *_: None  # type: ignore[method-assign]
    try:
        found = reader.read(body)
        return f"{found.matrix().tolist()} {found.payload()}"
    except ProblemError as problem:
        return f"{problem} {problem.errors}"


def assert_same(body: bytes, patch: pytest.MonkeyPatch) -> None:
    for columns in (COLUMNS, MIXED):
        for fast in (True, False):
            whole = outcome(body, columns, fast=fast)
            with patch.context() as inner:
                inner.setattr(pieces, "PIECE_BYTES", 1)
                assert outcome(body, columns, fast=fast) == whole
    members = frozenset({"dataframe_split", "dataframe_records", "instances", "inputs"})
    at_once = Reader(Signature(COLUMNS), MOST).typed.read(body, members)
    with patch.context() as inner:
        inner.setattr(pieces, "PIECE_BYTES", 1)
        found = Reader(Signature(COLUMNS), MOST).typed.read(body, members)
    assert found is None or (at_once is not None and np.array_equal(found, at_once, equal_nan=True))


@pytest.mark.parametrize(
    "body", [*map(json.dumps, BODIES), *(json.dumps(each, separators=(",", ":")) for each in BODIES)]
)
def test_forms_give_the_result_of_the_whole_body(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(body.encode(), monkeypatch)


@pytest.mark.parametrize("body", TEXTS)
def test_odd_texts_give_the_result_of_the_whole_body(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(body, monkeypatch)


@settings(deadline=None)
@given(
    st.sampled_from(["instances", "inputs", "data", "dataframe_records", "a"]),
    rows,
    st.dictionaries(st.sampled_from(["columns", "index", "instances"]), values, max_size=2),
    st.booleans(),
)
@example("instances", [], {}, False)
def test_random_bodies_give_the_result_of_the_whole_body(
    name: str, listed: list[Any], others: dict[str, Any], nested: bool
) -> None:
    form = others | {name: listed}
    with pytest.MonkeyPatch.context() as patch:
        assert_same(json.dumps({"dataframe_split": form} if nested else form).encode(), patch)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "form",
    [{"instances": RECORDS * 9}, {"instances": LISTS * 9}, {"columns": ["b", "a"], "data": SWAPPED * 9}],
    ids=["records", "lists", "split"],
)
def test_rows_are_parsed_one_piece_at_a_time(form: Any) -> None:
    parsed: list[int] = []

    def parse(text: bytes) -> Any:
        parsed.append(len(text))
        return from_json(text)

    body = json.dumps(form).encode()

    assert pieces.parsed(body, parse, MOST) == form
    assert len(parsed) == 37  # the head and one call per row
    assert max(parsed) < 50
    found = Reader(Signature(COLUMNS), MOST).typed.read(body, frozenset(form))
    assert found is not None
    assert len(found) == 36


@pytest.mark.usefixtures("tiny")
def test_body_with_too_many_rows_is_not_read_to_its_end() -> None:
    body = json.dumps({"instances": LISTS * 11}).encode()
    parsed: list[bytes] = []

    def parse(text: bytes) -> Any:
        parsed.append(text)
        return from_json(text)

    for read in (lambda: pieces.parsed(body, parse, MOST), lambda: Reader(Signature(COLUMNS), MOST).read(body)):
        with pytest.raises(TooLargeError, match="more than 40 rows, which is the limit"):
            read()
    assert len(parsed) == MOST + 2


@pytest.mark.usefixtures("tiny")
def test_csv_is_read_in_pieces() -> None:
    reader = Reader(Signature(COLUMNS), MOST)

    found = numbers_of_csv(b"b,a\n1,0.5\r\n2,1.5\n3,-4", reader.typed)

    assert found is not None
    assert found.tolist() == [[0.5, 1], [1.5, 2], [-4, 3]]
    for wrong in (b"b,a\n1,0.5\n\n2,1.5", b"b,a\n1,0.5\n2", b"b,a\n1,0.5\n2,1.5,3", b"b,a\n", b"b,a"):
        assert numbers_of_csv(wrong, reader.typed) is None


def test_many_cells_are_converted_in_blocks_with_one_list_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.model.signature._BLOCK_CELLS", 4)
    mixed, large = Signature(MIXED), 2**62 + 1
    integers = Signature([Column("a", "double"), Column("b", "long")])

    unseen: list[str] = []
    assert mixed.from_split(["a", "c", "o"], CATEGORIES, unseen).tolist() == [
        [0.5, 1, 1], [1, 2, 0], [2, 3, 1], [3, 0, 0]
    ]  # fmt: skip
    found = integers.from_split(["a", "b"], [*LISTS, [1.5, large], *LISTS])
    np.testing.assert_array_equal(found[:, 1], np.array([1, 2, 4, 7, large, 1, 2, 4, 7]).astype(np.float32))
    with pytest.raises(ProblemError) as caught:
        integers.from_split(["a", "b"], [*LISTS, [1.5, "x"], *LISTS, [None, None]])
    assert [(each.row, each.column) for each in caught.value.errors] == [(4, "b"), (9, "b")]
