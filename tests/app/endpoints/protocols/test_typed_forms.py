"""The fast path of each protocol returns the responses of the full path, and leaves all other bodies to it."""

import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.endpoints.protocols.mlflow import endpoints as mlflow
from app.endpoints.protocols.open_inference import endpoints as inference
from app.endpoints.protocols.open_inference import tensors
from app.model.typed import Typed
from tests.app.harness import COLUMNS, MODEL

ROWS: list[list[Any]] = [[0.5, 0.25, 3], [1, -2.5e-3, 7.0]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
BY_COLUMN = {name: [row[place] for row in ROWS] for place, name in enumerate(COLUMNS)}
FLAT = [value for row in ROWS for value in row]
CSV = "mean radius,texture,count\r\n0.5,0.25,3\r\n1,-2.5e-3,7\r\n"


def tensor(data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "rows", "shape": [2, 3], "datatype": "FP32", "data": data} | changes


def columns(datatype: str = "FP64", **changes: Any) -> list[dict[str, Any]]:
    values = BY_COLUMN | changes
    return [{"name": name, "shape": [2], "datatype": datatype, "data": data} for name, data in values.items()]


FAST: list[tuple[str, Any]] = [
    ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}),
    ("/invocations", {"dataframe_split": {"columns": COLUMNS, "index": [0, 1], "data": ROWS}}),
    ("/invocations", {"dataframe_records": RECORDS}),
    ("/invocations", {"instances": RECORDS}),
    ("/invocations", {"inputs": ROWS}),
    ("/invocations", {"inputs": BY_COLUMN}),
    ("/invocations", {"inputs": dict(reversed(BY_COLUMN.items()))}),
    ("/invocations", CSV),
    ("/invocations", CSV.replace("\r", "")),
    ("/v2", {"inputs": [tensor(FLAT)]}),
    ("/v2", {"inputs": [tensor(ROWS)], "id": "a", "outputs": [{"name": "label"}]}),
    ("/v2", {"inputs": columns()}),
    ("/v2", {"inputs": [tensor([1, 2, 3, 4, 5, 6], datatype="INT64")], "parameters": {"a": 1}}),
]
SLOW: list[tuple[str, Any]] = [
    ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": [[0.5, 0.25, None]]}}),
    ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": ROWS}, "params": {}}),
    ("/invocations", {"dataframe_split": {"columns": [*COLUMNS, "x"], "data": [[*row, "y"] for row in ROWS]}}),
    ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": ROWS}, "instances": []}),
    ("/invocations", {"dataframe_records": [RECORDS[0] | {"other": "x"}]}),
    ("/invocations", {"dataframe_records": [RECORDS[0], {"texture": 1}]}),
    ("/invocations", {"inputs": RECORDS[0]}),
    ("/invocations", {"inputs": BY_COLUMN | {"count": [3]}}),
    ("/invocations", {"inputs": BY_COLUMN | {"count": [[3], 7]}}),
    ("/invocations", {"inputs": [[[0.5], 0.25, 3]]}),
    ("/invocations", {"inputs": "[["}),
    ("/invocations", CSV.replace("0.25", "")),
    ("/invocations", CSV.replace("0.25", "0.25,1")),
    ("/invocations", CSV.replace("0.25", "1],[2")),
    ("/invocations", CSV.replace("0.25", '"0.25"')),
    ("/invocations", CSV.replace("7", "7.5")),
    ("/v2", {"inputs": [tensor([*FLAT[:5], None])]}),
    ("/v2", {"inputs": [tensor(FLAT[:5])]}),
    ("/v2", {"inputs": [tensor([*FLAT, 1])]}),
    ("/v2", {"inputs": [tensor([ROWS[0], [1, 2]])]}),
    ("/v2", {"inputs": [tensor([[[0.5], 0.25, 3], ROWS[1]])]}),
    ("/v2", {"inputs": [tensor([*FLAT[:5], True])]}),
    ("/v2", {"inputs": [tensor(FLAT, datatype="INT64")]}),
    ("/v2", {"inputs": [tensor([1, 2, 3, 4, 5, 300], datatype="UINT8")]}),
    ("/v2", {"inputs": [tensor(FLAT, datatype="BYTES")]}),
    ("/v2", {"inputs": [tensor(FLAT, shape=[3, 2])]}),
    ("/v2", {"inputs": [tensor(FLAT, shape=["2", 3])]}),
    ("/v2", {"inputs": columns("BOOL")}),
    ("/v2", {"inputs": columns(count=[3.5, 7])}),
    ("/v2", {"inputs": [tensor(FLAT)], "outputs": "x"}),
    ("/v2", {"inputs": [tensor(FLAT)], "id": 1}),
    ("/v2", {"inputs": []}),
    ("/v2", {"inputs": [tensor([])]}),
    ("/v2", [1]),
]


def ask(client: TestClient, path: str, body: Any) -> tuple[int, Any]:
    content = body if isinstance(body, str) else json.dumps(body)
    kind = "text/csv" if isinstance(body, str) else "application/json"
    full = f"/v2/models/{MODEL}/infer" if path == "/v2" else path
    answer = client.post(full, content=content, headers={"Content-Type": kind, "X-Request-ID": "same"})
    return answer.status_code, answer.json()


def without_fast_path(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Typed, "read", lambda *_: None)
    patch.setattr(Typed, "rows", lambda *_: None)
    patch.setattr(tensors, "parsed", lambda *_: None)


@pytest.mark.parametrize(("path", "body"), FAST)
def test_valid_bodies_take_the_fast_path(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    with monkeypatch.context() as patch:
        without_fast_path(patch)
        full = ask(client, path, body)
    for module, name in ((mlflow.Invocations, "_checked"), (inference, "from_json")):
        monkeypatch.setattr(module, name, None)  # the full path fails

    assert ask(client, path, body) == full
    assert full[0] == 200


@pytest.mark.parametrize(("path", "body"), SLOW)
def test_other_bodies_give_the_result_of_the_full_path(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    short = ask(client, path, body)
    without_fast_path(monkeypatch)

    assert short == ask(client, path, body)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4"])
def test_binary_tensor_gives_the_response_of_json(client: TestClient, dtype: str) -> None:
    rows = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    datatype = {"<f4": "FP32", "<f8": "FP64", "<i4": "INT32"}[dtype]
    plain = tensor(rows.ravel().tolist(), datatype=datatype)
    head = {key: value for key, value in plain.items() if key != "data"}
    head["parameters"] = {"binary_data_size": rows.nbytes}
    content = json.dumps({"inputs": [head]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(content)),
        "X-Request-ID": "same",
    }

    answer = client.post(f"/v2/models/{MODEL}/infer", content=content + rows.tobytes(), headers=headers)

    assert (answer.status_code, answer.json()) == ask(client, "/v2", {"inputs": [plain]})


@pytest.mark.parametrize(
    ("path", "label"),
    [("/invocations", "/invocations"), (f"/v2/models/{MODEL}/infer", "/v2/models/{name}/infer")],
)
def test_direct_paths_are_counted_by_their_route(client: TestClient, path: str, label: str) -> None:
    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith("http_server_requests_total{") and f'path="{label}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in found if 'status_code="400"' in line)

    before = counted()
    assert client.post(path, content=b"{").status_code == 400

    assert counted() == before + 1
