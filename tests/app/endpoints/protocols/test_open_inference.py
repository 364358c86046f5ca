"""The Open Inference Protocol, tested with Triton's client (JSON and binary tensors) and with invalid requests."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from backports import zstd
from starlette.testclient import TestClient

from app.main import create_app
from app.model.booster import Matrix
from tests.app.harness import CLASSES, COLUMNS, MODEL, listening, running_service, serving, settings_for
from tests.app.kinds import KINDS, ROWS

ASKED = ["multiclass", "classifier", "regression", "quantiles", "softmax", "missing", "categorical", "optional"]
INFER = f"/v2/models/{MODEL}/infer"
DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
ROW = {"name": "rows", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 0.25, 3]}


@pytest.fixture(scope="module", params=ASKED)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Any]]:
    """Yield the kind of model, Triton's client and the logged model."""
    from tritonclient.http import InferenceServerClient

    folder = tmp_path_factory.mktemp("triton")
    model = KINDS[request.param].save(folder / "model")
    with running_service((folder / "model").as_uri(), folder) as here:
        client = InferenceServerClient(f"127.0.0.1:{here.port}")
        yield request.param, client, model
        client.close()


def column_inputs(kind: str, metadata: dict[str, Any], binary: bool, place: slice) -> list[Any]:
    """Return one tensor per column, by the metadata of the model."""
    from tritonclient.http import InferInput

    frame = KINDS[kind].frame[place]
    inputs = []
    for described in metadata["inputs"]:
        values, datatype = frame[described["name"]], described["datatype"]
        if datatype == "BYTES":
            array = np.array([each.encode() for each in values], dtype=np.object_)
        else:
            array = values.to_numpy(dtype=DTYPES[datatype])
        inputs.append(InferInput(described["name"], list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return inputs


def numbers(kind: str, model: Any) -> Any:
    """Return XGBoost's predictions in the form of the protocol's output."""
    own = np.asarray(KINDS[kind].own(model, KINDS[kind].frame), dtype=np.float32)
    return np.c_[1 - own, own] if kind == "categorical" else own


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_tritons_client_gets_xgboosts_own_numbers(served: tuple[str, Any, Any], binary: bool) -> None:
    from tritonclient.http import InferRequestedOutput

    kind, client, model = served
    metadata = client.get_model_metadata("model")
    frame = KINDS[kind].frame
    complete = (
        frame.drop(columns="rare", errors="ignore").notna().all(axis=1) if kind == "optional" else frame.any(axis=1)
    )
    places = [i for i, whole in enumerate(complete) if whole or kind != "optional"][:20]
    if kind == "categorical":
        places = [i for i in places if isinstance(frame["rare"].iloc[i], str)]
    names = [each["name"] for each in metadata["outputs"]]
    version = metadata["versions"][0]

    for place in places[:5]:
        inputs = column_inputs(kind, metadata, binary, slice(place, place + 1))
        wanted = [InferRequestedOutput(name, binary_data=binary) for name in names]
        answer = client.infer("model", inputs, version, wanted, request_id="mine")

        response = answer.get_response()
        assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "model", version)
        found = {name: answer.as_numpy(name) for name in names}
        if "label" in found:
            classes = KINDS[kind].contract.get("classes", ["0", "1"])
            texts = [each.decode() if isinstance(each, bytes) else each for each in found["label"]]
            own = numbers(kind, model)[place]
            assert texts == [classes[int(own if kind == "softmax" else own.argmax())]]
        for name in set(names) - {"label"}:
            np.testing.assert_array_equal(found[name][0], numbers(kind, model)[place])


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_one_tensor_with_all_columns_predicts_all_rows(served: tuple[str, Any, Any], binary: bool) -> None:
    from tritonclient.http import InferInput

    kind, client, model = served
    if kind in ("categorical", "optional"):  # columns of different types require one tensor each
        with pytest.raises(Exception, match="Datatypes do not fit"):
            _all_rows(client, np.zeros((1, len(KINDS[kind].frame.columns)), np.float32), binary, InferInput)
        return

    answer = _all_rows(client, KINDS[kind].frame.to_numpy(dtype=np.float32), binary, InferInput)

    output = "label" if kind == "softmax" else client.get_model_metadata("model")["outputs"][-1]["name"]
    found = answer.as_numpy(output)
    if kind == "softmax":
        classes = KINDS[kind].contract["classes"]
        found = np.array([classes.index(each.decode() if isinstance(each, bytes) else each) for each in found])
    np.testing.assert_array_equal(found, numbers(kind, model))
    assert len(found) == ROWS


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
@pytest.mark.parametrize("served", ["multiclass", "regression"], indirect=True)
def test_tritons_client_compresses_requests_and_responses(
    served: tuple[str, Any, Any], binary: bool, coding: str
) -> None:
    from tritonclient.http import InferInput

    kind, client, model = served
    rows = np.tile(KINDS[kind].frame.to_numpy(dtype=np.float32), (5, 1))
    codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}

    answer = _all_rows(client, rows, binary, InferInput, **codings)

    found = answer.as_numpy(client.get_model_metadata("model")["outputs"][-1]["name"])
    np.testing.assert_array_equal(found, np.concatenate([numbers(kind, model)] * 5))


def _all_rows(client: Any, rows: Matrix, binary: bool, made: Any, **options: str) -> Any:
    tensor = made("all columns", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return client.infer("model", [tensor], **options)  # the client requests all outputs as binary data by default


def test_tritons_client_sees_server_and_model(served: tuple[str, Any, Any]) -> None:
    kind, client, _ = served
    metadata = client.get_model_metadata("model")

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model")
    assert client.is_model_ready("model", metadata["versions"][0])
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert [each["name"] for each in metadata["inputs"]] == list(KINDS[kind].frame.columns)


def framed(tensor: dict[str, Any], raw: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    head = json.dumps({"inputs": [tensor], **more}).encode()
    sizes = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return head + raw, sizes


def test_every_number_type_predicts_as_predict(client: TestClient) -> None:
    wanted = client.post("/predict", json={"columns": COLUMNS, "data": [[1, 2, 3]]}).json()["predictions"][0]
    types = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4"}
    types |= {"INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}
    for datatype, dtype in types.items():
        raw = np.array([1, 2, 3], dtype).tobytes()
        tensor = {"name": "x", "datatype": datatype, "shape": [1, 3]}
        body, headers = framed(tensor | {"parameters": {"binary_data_size": len(raw)}}, raw)

        for answer in (
            client.post(INFER, content=body, headers=headers),
            client.post(INFER, json={"inputs": [tensor | {"data": [1, 2, 3]}]}),
            client.post(INFER, json={"inputs": [tensor | {"data": [[1, 2, 3]]}]}),
        ):
            outputs = {each["name"]: each for each in answer.json()["outputs"]}
            assert outputs["label"]["data"] == [wanted["label"]]
            assert outputs["probabilities"]["data"] == list(wanted["probabilities"].values())
            assert outputs["probabilities"]["shape"] == [1, 2]


def test_null_and_nan_are_missing(client: TestClient, booster: xgb.Booster) -> None:
    types = ["float", "float", "int"]
    matrix = xgb.DMatrix(np.array([[0.5, np.nan, 3]]), feature_names=COLUMNS, feature_types=types)
    wanted = booster.predict(matrix)[0]
    for text in ("null", "NaN"):
        body = json.dumps({"inputs": [ROW]}).replace("0.25", text)

        found = client.post(INFER, content=body).json()["outputs"][1]["data"][1]

        assert np.float32(found) == wanted


def test_only_requested_outputs_are_returned_also_for_many_rows(client: TestClient) -> None:
    many = ROW | {"shape": [150, 3], "data": [0.5, 0.25, 3] * 150}
    body = {"inputs": [many], "outputs": [{"name": "label"}], "id": "7"}

    answer = client.post(INFER, json=body).json()

    assert (answer["id"], [each["name"] for each in answer["outputs"]]) == ("7", ["label"])
    assert answer["outputs"][0]["shape"] == [150]
    assert set(answer["outputs"][0]["data"]) <= set(CLASSES)


BAD: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    ({}, "inputs must be a list of at least one tensor"),
    ({"inputs": [1]}, "Input 0 must be an object with a name"),
    ({"inputs": [ROW | {"datatype": "FP8"}]}, "Input 'rows' must have one of the datatypes FP16"),
    ({"inputs": [ROW | {"shape": [3]}]}, "is not a column of this model"),
    ({"inputs": [ROW | {"shape": [1, 2, 3]}]}, "Input 'rows' must have the shape"),
    ({"inputs": [ROW | {"shape": [-1, 3]}]}, "Input 'rows' must have the shape"),
    ({"inputs": [ROW | {"shape": [True, 3]}]}, "Input 'rows' must have the shape"),
    ({"inputs": [ROW | {"shape": [1, 2**40]}]}, "Input 'rows' must have the shape"),
    ({"inputs": [ROW | {"shape": [1, 2]}]}, "Input 'rows' has 3 values, but its shape [1, 2] has 2"),
    ({"inputs": [ROW | {"shape": [1, 2], "data": [1, 2]}]}, "Input 'rows' has the shape [1, 2]; it must be"),
    ({"inputs": [ROW | {"data": [[1, 2], [3]]}]}, "Input 'rows' has data that does not match its shape [1, 3]"),
    ({"inputs": [ROW | {"data": 1}]}, "Input 'rows' must have its values in the list data, which is a number"),
    ({"inputs": [ROW | {"data": [1, "2", 3]}]}, "Input 'rows' has values in data that are not of datatype FP32"),
    ({"inputs": [ROW | {"data": [1, [2], 3]}]}, "Input 'rows' has values in data that are not of datatype FP32"),
    ({"inputs": [ROW | {"datatype": "INT8", "data": [1, 2, 300]}]}, "Input 'rows' has values in data that do not fit"),
    (
        {"inputs": [ROW | {"datatype": "BYTES", "data": ["a"] * 3}]},
        "column 'mean radius': is a float, so its datatype must be FP16",
    ),
    ({"inputs": [ROW | {"data": [1, 2, 0.5]}]}, "row 0, column 'count': must be a whole number"),
    ({"inputs": [ROW | {"data": [1, 1e300, 1]}]}, "row 0, column 'texture': must be finite"),
    (
        {"inputs": [ROW | {"parameters": 1}]},
        "Input 'rows' has parameters of the wrong type: a number instead of an object",
    ),
    ({"inputs": [ROW | {"parameters": {"shared_memory_region": "x"}}]}, "Input 'rows' is in shared memory"),
    ({"inputs": [ROW | {"parameters": {"binary_data_size": 12}}]}, "Input 'rows' has both data and binary_data_size"),
    ({"inputs": [ROW, ROW]}, "Input 'rows' has the shape [1, 3]; it must be"),
    ({"inputs": [ROW], "id": 1}, "id must be a string"),
    ({"inputs": [ROW], "parameters": []}, "parameters must be an object"),
    ({"inputs": [ROW], "outputs": {}}, "outputs must be a list"),
    ({"inputs": [ROW], "outputs": [{"name": "x"}]}, "Output 0 must be an object with a name: one of label, prob"),
    (
        {"inputs": [ROW], "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        "classification and shared memory",
    ),
]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_invalid_request_returns_400_and_names_the_tensor(client: TestClient, body: Any, words: str) -> None:
    answer = client.post(INFER, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json"), answer.text
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "raw", "words"),
    [
        ("FP32", [1, 3], 12, b"\0" * 11, "binary_data_size that does not fit in the remaining 11 bytes"),
        ("FP32", [1, 3], 8, b"\0" * 8, "has 8 bytes of binary data, but its shape has 12"),
        ("FP64", [200, 2_000_000_000], 8, b"\0" * 8, "has 8 bytes of binary data, but its shape has 3200000000000"),
        ("FP32", [1, 3], 12, b"\0" * 13, "1 bytes of binary data belong to no input"),
        ("FP32", [1, 3], -1, b"", "binary_data_size that does not fit in the remaining 0 bytes"),
        ("FP32", [1, 3], "12", b"\0" * 12, "binary_data_size that does not fit in the remaining 12 bytes"),
        ("BOOL", [1, 3], 3, b"\0\1\2", "bytes that are neither 0 nor 1"),
        ("BYTES", [1, 2], 8, b"\xff\xff\xff\xff1234", "ends within its string 0"),
        ("BYTES", [1, 1], 5, b"\1\0\0\0\xff", "string 0 is not valid UTF-8"),
        ("BYTES", [1, 2], 11, b"\1\0\0\0a\0\0\0\0\0\0", "of 2 strings or more, but its shape has 2"),
        ("BYTES", [1, 2], 9, b"\5\0\0\0abcde", "of 1 strings or more, but its shape has 2"),
        ("BYTES", [1, 3], 3, b"\1\0\0", "has 3 bytes of binary data, too few for 3 strings"),
        ("BYTES", [200, 2_000_000_000], 4, b"\0\0\0\0", "too few for 400000000000 strings"),
    ],
)
def test_binary_data_that_does_not_match_its_shape_returns_400(
    client: TestClient, datatype: str, shape: list[int], size: Any, raw: bytes, words: str
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    body, headers = framed(tensor, raw)

    answer = client.post(INFER, content=body, headers=headers)

    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize("length", ["0", "-1", "x", "99999", "9" * 40])
def test_invalid_json_length_returns_400(client: TestClient, length: str) -> None:
    answer = client.post(INFER, json={"inputs": [ROW]}, headers={"Inference-Header-Content-Length": length})

    assert (answer.status_code, answer.json()["error"].startswith("Inference-Header-Content-Length")) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v2/models/other/infer", 404, "The model 'other' is not served here; 'breast-cancer' is."),
        ("POST", f"/v2/models/{MODEL}/versions/9/infer", 404, "Version '9' of 'breast-cancer' is not served here"),
        ("GET", "/v2/models/other", 404, "The model 'other' is not served here"),
        ("GET", f"/v2/models/{MODEL}/versions/9/ready", 404, "Version '9' of"),
        ("GET", "/v2/nothing", 404, "Not Found"),
        ("GET", INFER, 405, "Method Not Allowed"),
        ("ATTACK", INFER, 405, "No path supports this method"),
    ],
)
def test_unknown_model_or_path_has_the_protocols_error_format(
    client: TestClient, method: str, path: str, status: int, words: str
) -> None:
    answer = client.request(method, path, json={"inputs": [ROW]})

    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/v2/models/other/infer", f"/v2/models/{MODEL}/versions/9/infer", "/v2/nothing", "/invocations/x", "/nothing"],
)
def test_unknown_model_or_path_returns_404_before_the_body_is_read(saved: Path, tmp_path: Path, path: str) -> None:
    async def ask() -> int:
        async with listening(settings_for(saved.as_uri(), tmp_path, model_name=MODEL)) as here:
            return (await asyncio.wait_for(here.ask("POST", path, announced=1000), 5)).status

    assert asyncio.run(ask()) == 404  # before any of the body is sent


def test_limits_of_predict_apply(client: TestClient) -> None:
    many = client.post(INFER, json={"inputs": [ROW | {"shape": [201, 3]}]})
    large = client.post(INFER, content=b" " * 20_001)
    text = client.post(INFER, content=b"{}", headers={"Content-Type": "text/plain"})

    assert [each.status_code for each in (many, large, text)] == [413, 413, 415]
    assert text.headers["accept"] == "application/json, application/octet-stream"
    assert all(each.json().keys() == {"error"} for each in (many, large, text))


def test_unknown_names_and_versions_create_no_series(client: TestClient) -> None:
    for name in ("a", "b", MODEL):
        client.post(f"/v2/models/{name}/infer", json={"inputs": [ROW]})
        client.get(f"/v2/models/{name}/versions/77")
    client.post("/invocations", json={"inputs": []})

    text = client.get("/metrics").text

    assert 'path="/v2/models/{name}/infer",status_code="200"' in text
    assert 'path="/v2/models/{name}/versions/{version}",status_code="404"' in text
    assert 'path="/invocations",status_code="400"' in text
    assert "/v2/models/a" not in text
    assert "/versions/77" not in text


def test_not_ready_returns_503_with_retry_after(tmp_path: Path) -> None:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as client:
        gets = [client.get(path) for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m")]
        infer = client.post("/v2/models/m/infer", json={"inputs": [ROW]})
        live = client.get("/v2/health/live")

    assert [each.status_code for each in (*gets, infer, live)] == [503, 503, 503, 503, 200]
    assert {each.headers["retry-after"] for each in (*gets, infer)} == {"5"}
    assert infer.json().keys() == gets[2].json().keys() == {"error"}


def test_missing_key_has_each_protocols_error_format(saved: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "me").write_text("0123456789abcdef")
    with serving(settings_for(saved.as_uri(), tmp_path, model_name=MODEL, api_keys_dir=keys)) as client:
        refused = [client.post(INFER, json={"inputs": [ROW]}), client.get("/v2"), client.get("/ping")]
        client.headers["Authorization"] = "Bearer 0123456789abcdef"
        taken = client.post(INFER, json={"inputs": [ROW]})

    assert [each.status_code for each in (*refused, taken)] == [401, 401, 401, 200]
    assert [list(each.json()) for each in refused] == [["error"], ["error"], ["error_code", "message"]]


def test_disabled_protocol_returns_404(saved: Path, tmp_path: Path) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path, model_name=MODEL, open_inference_protocol=False)) as client:
        found = [client.post(INFER, json={"inputs": [ROW]}), client.get("/v2")]

    assert {(each.status_code, each.headers["content-type"]) for each in found} == {(404, "application/problem+json")}


@pytest.mark.parametrize("coding", ["zstd", "gzip", "deflate"])
def test_length_of_the_json_is_that_without_compression(client: TestClient, coding: str) -> None:
    """As in Triton, for requests and for responses."""
    compress: Any = {"zstd": zstd.compress, "gzip": gzip.compress, "deflate": zlib.compress}[coding]
    rows = np.tile(np.array([0.5, 0.25, 3], np.float32), 150)
    tensor = {"name": "rows", "datatype": "FP32", "shape": [150, 3], "parameters": {"binary_data_size": rows.nbytes}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    body = text + rows.tobytes()

    plain = client.post(INFER, content=body, headers=headers | {"Accept-Encoding": "identity", "X-Request-ID": "same"})
    coded = headers | {"Content-Encoding": coding, "Accept-Encoding": coding, "X-Request-ID": "same"}
    packed = client.post(INFER, content=compress(body), headers=coded)

    assert (packed.status_code, packed.headers["content-encoding"]) == (200, coding), packed.text
    assert packed.content == plain.content
    assert packed.headers["content-type"] == "application/octet-stream"
    size = int(packed.headers["inference-header-content-length"])
    assert int(packed.headers["content-length"]) < size < len(packed.content)
    assert json.loads(packed.content[:size])["outputs"][1]["parameters"]["binary_data_size"] == 150 * 2 * 4
