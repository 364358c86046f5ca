"""Arrow IPC streams as bodies of requests and responses, written and read by pyarrow."""

import datetime
import decimal
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from backports import zstd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.endpoints.arrow import ARROW
from app.errors import ProblemError
from app.model.arrow import reader, writer
from app.model.arrow.flatbuffers import MetadataError
from app.model.arrow.rows import read_rows
from app.model.columns import Column
from app.model.signature import Signature
from tests.app.harness import COLUMNS, serving, settings_for
from tests.app.kinds import KINDS

SENT = {"Content-Type": ARROW}
MIXED = [
    Column("a", "double"),
    Column("b", "long"),
    Column("c", "string", categories=("x", "y", "é")),
    Column("d", "long", categories=(1, 2, 7)),
    Column("e", "boolean"),
    Column("f", "boolean", required=False),
    Column("g", "integer", required=False),
]
VALUES: dict[str, list[Any]] = {
    "a": [0.5, None, -3e5],
    "b": [1, 2**40, 3],
    "c": ["x", None, "é"],
    "d": [7, 1, None],
    "e": [True, False, True],
    "f": [None, True, False],
    "g": [1, None, 3],
}


def stream(table: pa.Table, batches: int = 1, **options: Any) -> bytes:
    output = io.BytesIO()
    with pa.ipc.new_stream(output, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as to:
        for batch in table.to_batches(max(1, -(-len(table) // batches))):
            to.write_batch(batch)
    return output.getvalue()


def single(**columns: pa.Array) -> pa.Table:
    """Return one valid row of the saved model, with different columns."""
    row: dict[str, Any] = {"mean radius": pa.array([0.5]), "texture": pa.array([0.25]), "count": pa.array([3])}
    return pa.table(row | columns)


@pytest.mark.parametrize("batches", [1, 3])
def test_stream_predicts_what_json_predicts(kind: str, served: tuple[TestClient, Any], batches: int) -> None:
    client, _ = served
    body = KINDS[kind].body()
    types = {column["name"]: column for column in client.get("/model").json()["signature"]}
    arrays = {}
    for place, name in enumerate(body["columns"]):
        cells = [row[place] for row in body["data"]]
        text = any(isinstance(cell, str) for cell in cells)
        arrays[name] = (
            pa.array(cells).dictionary_encode() if text and types[name].get("categories") else pa.array(cells)
        )

    answer = client.post("/predict", content=stream(pa.table(arrays), batches), headers=SENT)

    assert answer.status_code == 200, answer.text
    assert answer.json() == client.post("/predict", json=body).json()


def test_stream_of_pandas_predicts_and_its_index_is_ignored(client: TestClient) -> None:
    frame = pd.DataFrame({"texture": [0.25], "count": [3], "mean radius": [0.5]}, index=["some row"])
    answer = client.post("/predict", content=stream(pa.Table.from_pandas(frame)), headers=SENT)

    assert (
        answer.json()
        == client.post("/predict", json={"instances": [dict(zip(COLUMNS, [0.5, 0.25, 3], strict=True))]}).json()
    )


@pytest.mark.parametrize("order", [list(VALUES), list(reversed(VALUES))])
@pytest.mark.parametrize(
    "casts",
    [
        {},
        {"a": pa.float32(), "b": pa.uint64(), "d": pa.int8(), "g": pa.int16()},
        {"b": pa.float64(), "g": pa.float64()},
        {"a": pa.decimal128(10, 2), "c": pa.large_string()},
        {"a": pa.decimal256(40, 3), "d": pa.dictionary(pa.int32(), pa.int64())},
        {"c": pa.dictionary(pa.int8(), pa.large_string())},
        {"c": pa.dictionary(pa.uint16(), pa.string())},
    ],
)
def test_types_mean_what_the_cells_of_json_mean(order: list[str], casts: dict[str, pa.DataType]) -> None:
    signature = Signature(MIXED)
    arrays = {
        name: pa.array(VALUES[name]).dictionary_encode().cast(casts[name])
        if pa.types.is_dictionary(casts.get(name, pa.null()))
        else pa.array(VALUES[name]).cast(casts.get(name, pa.array(VALUES[name]).type))
        for name in order
    }

    found = read_rows(stream(pa.table(arrays), 2), signature, 9)

    rows = [list(row) for row in zip(*(VALUES[name] for name in order), strict=True)]
    np.testing.assert_array_equal(found.matrix(), signature.from_split(order, rows))
    assert found.payload() == {"columns": order, "data": rows}


def test_numbers_and_known_categories_need_no_check_per_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = Signature(MIXED)
    arrays = {name: pa.array([value for value in values if value is not None][:1]) for name, values in VALUES.items()}
    expected = read_rows(stream(pa.table(arrays)), signature, 9).matrix()
    monkeypatch.setattr(Signature, "from_split", None)

    np.testing.assert_array_equal(read_rows(stream(pa.table(arrays)), signature, 9).matrix(), expected)


def test_times_are_strings_in_iso_8601() -> None:
    moment = datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    arrays = {
        "day": pa.array([moment.date(), None]),
        "ms day": pa.array([moment.date(), None], pa.date64()),
        "us": pa.array([moment, None], pa.timestamp("us", "UTC")),
        "ns": pa.array([moment, None], pa.timestamp("ns", "Europe/Berlin")),
        "s": pa.array([moment.replace(tzinfo=None, microsecond=0), None], pa.timestamp("s")),
        "zone": pa.array([moment.astimezone(zone), None]),
    }

    found = {each.name: each.cells() for each in reader.read(stream(pa.table(arrays)), 9, 9)}

    assert all(cells[1] is None for cells in found.values())
    assert datetime.date.fromisoformat(found["day"][0]) == moment.date()
    assert found["ms day"][0].startswith("2026-01-31T00:00:00")
    assert {datetime.datetime.fromisoformat(found[name][0]) for name in ("us", "ns", "zone")} == {
        moment.replace(tzinfo=None)
    }
    assert found["s"][0] == "2026-01-31T12:00:00"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (pa.array(["x"]), "is a float, so its Arrow type must be a number, not a string"),
        (pa.array([True]), "is a float, so its Arrow type must be a number, not a boolean"),
        (pa.array(["x"]).dictionary_encode(), "is a float, so its Arrow type must be a number, not a string"),
        (pa.array([datetime.date(2026, 1, 1)]), "is a float, so its Arrow type must be a number, not a datetime"),
        (pa.array([[1.5]]), "has the Arrow type list; supported are numbers, booleans, strings"),
        (pa.array([{"a": 1}]), "has the Arrow type struct; supported are"),
        (pa.array([b"x"]), "has the Arrow type binary; supported are"),
        (pa.array(["x"], pa.string_view()), "has the Arrow type string view; supported are"),
        (pa.array([float("inf")]), "must be finite as a 32-bit number"),
        (pa.array([1e300]), "must be finite as a 32-bit number"),
    ],
)
def test_wrong_type_or_value_names_the_column(client: TestClient, values: pa.Array, problem: str) -> None:
    answer = client.post("/predict", content=stream(single(texture=values)), headers=SENT)

    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["column"] == "texture"
    assert problem in error["problem"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (pa.array([None], pa.int64()), "must not be null"),
        (pa.array([1.5]), "must be a whole number"),
        (pa.nulls(1), "must not"),
    ],
)
def test_cells_are_checked_as_in_json(client: TestClient, values: pa.Array, problem: str) -> None:
    answer = client.post("/predict", content=stream(single(count=values)), headers=SENT)

    assert answer.json()["errors"][0] | {"problem": ""} == {"row": 0, "column": "count", "problem": ""}
    assert problem in answer.json()["errors"][0]["problem"]


@pytest.mark.parametrize("values", [pa.array([None], pa.float64()), pa.array([float("nan")]), pa.nulls(1)])
def test_null_and_nan_are_missing_values(client: TestClient, values: pa.Array) -> None:
    answer = client.post("/predict", content=stream(single(texture=values)), headers=SENT)

    missing = client.post("/predict", json={"columns": COLUMNS, "data": [[0.5, None, 3]]})
    assert answer.json() == missing.json()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "not a valid Arrow IPC stream"),
        (b"ARROW1\0\0", 400, "not a valid Arrow IPC stream"),
        (b'{"instances": []}', 400, "not a valid Arrow IPC stream"),
        (stream(single())[:-40], 400, "not a valid Arrow IPC stream"),
        (stream(single().slice(0, 0)), 422, "at least one row"),
        (stream(pa.table({})), 422, "at least one row"),
        (stream(single().select(["texture"])), 422, "2 problems"),
        (stream(single().append_column("other", pa.array([1]))), 422, "1 problem"),
        (stream(single().append_column("texture", pa.array([1.5]))), 422, "1 problem"),
        (stream(pa.table({f"c{place}": [1] for place in range(20)})), 422, "has 20 columns"),
        (stream(pa.concat_tables([single()] * 201).combine_chunks()), 413, "more than 200 rows, which is the limit"),
        (stream(single(), compression="zstd"), 422, "write it without compression, and use Content-Encoding"),
        (stream(single(), compression="lz4"), 422, "write it without compression, and use Content-Encoding"),
    ],
)
def test_streams_are_refused_with_the_reason(client: TestClient, content: bytes, status: int, words: str) -> None:
    answer = client.post("/predict", content=content, headers=SENT)

    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_limits_of_bytes_and_decompressed_bytes_apply(client: TestClient) -> None:
    table = pa.table({name: np.full(200, 0.5) for name in [*COLUMNS[:2]]} | {"count": np.full(200, 3)})
    content = stream(table)
    large = stream(table.append_column("x" * 30_000, pa.array(np.zeros(200))))

    packed = client.post("/predict", content=zstd.compress(content), headers=SENT | {"Content-Encoding": "zstd"})
    assert len(packed.json()["predictions"]) == 200
    assert client.post("/predict", content=large, headers=SENT).status_code == 413
    bomb = client.post("/predict", content=zstd.compress(large), headers=SENT | {"Content-Encoding": "zstd"})
    assert (bomb.status_code, "decompressed" in bomb.json()["detail"]) == (413, True)


def test_explain_takes_streams(client: TestClient) -> None:
    table = single()

    answer = client.post("/explain", content=stream(table), headers=SENT)

    assert answer.json() == client.post("/explain", json={"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).json()


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/breast-cancer/infer", "/feedback"])
def test_other_protocols_have_forms_of_their_own(client: TestClient, path: str) -> None:
    assert client.post(path, content=stream(single()), headers=SENT).status_code in (
        404,
        415,
    )


def test_parquet_names_what_is_accepted(client: TestClient) -> None:
    answer = client.post("/predict", content=b"PAR1", headers={"Content-Type": "application/vnd.apache.parquet"})

    assert (answer.status_code, answer.headers["accept"]) == (415, f"application/json, {ARROW}")


def test_response_is_a_stream_if_the_client_prefers_one(kind: str, served: tuple[TestClient, Any]) -> None:
    client, _ = served
    body = KINDS[kind].body()
    plain = client.post("/predict", json=body).json()

    answer = client.post("/predict", json=body, headers={"Accept": f"{ARROW}, application/json;q=0.5"})

    assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW)
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    table = pa.ipc.open_stream(answer.content).read_all()
    table.validate(full=True)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata == {f"model_{key}": value for key, value in plain["model"].items()}
    found = [as_json(row) for row in table.to_pylist()]
    assert found == plain["predictions"]


def as_json(row: dict[str, Any]) -> Any:
    """Return a row of a response as the prediction in a JSON response."""
    if "prediction" in row:
        return rounded(row["prediction"])
    if "label" not in row:
        return [rounded(value) for value in row.values()]
    shares = {name.removeprefix("probability_"): rounded(value) for name, value in row.items() if name != "label"}
    return {"label": row["label"]} | ({"probabilities": shares} if shares else {})


def rounded(value: float) -> float:
    """Return a float32 as orjson writes it for float64."""
    return float(np.float32(value)) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("*/*", False), ("application/*", False), ("application/json", False), (ARROW, True), (ARROW.upper(), True),
        (f"{ARROW};q=0", False), (f"application/json, {ARROW};q=0.9", False), (f"{ARROW};q=0.9, */*", True),
    ],
)  # fmt: skip
def test_client_decides_the_form_of_the_response(client: TestClient, accept: str, streamed: bool) -> None:
    content: dict[str, Any] = {"columns": COLUMNS, "data": [[0.5, 0.25, 3]] * 150}
    for rows in (content, content | {"data": content["data"][:1]}):
        answer = client.post("/predict", json=rows, headers={"Accept": accept, "Accept-Encoding": "gzip"})

        assert (answer.headers["content-type"] == ARROW) is streamed
    invalid = client.post("/predict", json={}, headers={"Accept": accept})
    assert invalid.headers["content-type"] == "application/problem+json"


def test_stream_contains_the_tokens_of_feedback(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "key").write_text("a-key-0123456789")
    KINDS["regression"].save(tmp_path / "model")
    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path, feedback_keys_dir=tmp_path / "keys")) as client:
        answer = client.post("/predict", json=KINDS["regression"].body(), headers={"Accept": ARROW})
        tokens = pa.ipc.open_stream(answer.content).read_all()["token"].to_pylist()
        labels = client.post("/feedback", json={"labels": [{"token": each, "label": 1} for each in tokens]})

    assert labels.json()["accepted"] == len(tokens)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.none() | st.booleans(), min_size=4, max_size=4)
        | st.lists(st.none() | st.integers(-(2**63) + 1, 2**63 - 1), min_size=4, max_size=4)
        | st.lists(st.none() | st.floats(allow_nan=False) | st.integers(-9, 9), min_size=4, max_size=4)
        | st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
@example({"": [None] * 4, "a": [True, None, False, None]})
def test_pyarrow_reads_what_is_written(columns: dict[str, list[Any]]) -> None:
    content = writer.write(columns, {"a": "b"})

    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    assert table.to_pydict() == columns
    again = {each.name: each.cells() for each in reader.read(content, 9, 9)}
    assert again == columns


changed = st.tuples(st.integers(0, 10**6), st.binary(max_size=8))  # place and new bytes


def streams() -> Iterator[bytes]:
    numbers = pa.table({"a": [0.5, None, 1.5], "b": [1, 2, 3], "e": [True, None, False]})
    yield stream(numbers)
    texts = pa.table({"c": pa.array(["x", "y", None]).dictionary_encode(), "s": ["x", None, "ééé"], "n": pa.nulls(3)})
    yield stream(texts, 2)
    yield stream(pa.table({"d": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-2.5")])}))


@settings(deadline=None, max_examples=600)
@given(
    st.sampled_from(list(streams())),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=8)), max_size=3),
    st.data(),
)
def test_damaged_streams_are_read_or_refused(
    content: bytes, changes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    damaged = bytearray(content)
    for place, new in changes:
        start = place % len(damaged)
        damaged[start : start + len(new)] = new
    sent = bytes(damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))])
    try:
        found = reader.read(sent, 9, 9)
    except ProblemError as problem:
        assert problem.status in (400, 413, 422)  # noqa: PT017 - either result is right
        return
    assert all(len(each.cells()) <= 9 for each in found)


def test_overlapping_buffers_are_refused() -> None:
    """Otherwise a small body could contain the same long text many times."""
    body = memoryview(bytes(range(16)))

    assert [bytes(each) for each in reader._buffers([(0, 4), (0, 0), (8, 8)], body)] == [
        bytes(body[8:]),
        b"",
        b"\0\1\2\3",
    ]
    for wrong in ([(0, 4), (0, 4)], [(8, 8), (0, 4)], [(0, 4), (3, 1)], [(8, 9)], [(-1, 2)], [(0, -1)], [(2**62, 8)]):
        with pytest.raises(MetadataError):
            reader._buffers(wrong, body)
