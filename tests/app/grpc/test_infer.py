"""Predictions over gRPC: Triton's client gets the bytes that REST returns, in both forms of tensors."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2
from tritonclient.http import InferenceServerClient as RestClient
from tritonclient.http import InferInput as RestInput
from tritonclient.http import InferRequestedOutput as RestOutput

from app.grpc.messages import CLASSES
from app.grpc.tensors import CONTENTS
from app.logs import JsonFormatter
from tests.app.grpc.clients import SERVICE, Both, Start, message
from tests.app.harness import MODEL, ROOT
from tests.app.http.test_tracing import PARENT, TRACE, Collector, attributes
from tests.app.kinds import KINDS
from tests.app.monitoring.test_payload import Lines

ASKED = ["multiclass", "quantiles", "categorical", "missing"]
DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
NUMBERS: dict[str, Any] = {
    **{"FP16": np.float16, "FP32": np.float32, "FP64": np.float64},
    **{f"INT{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
}


@pytest.fixture(scope="module", params=ASKED)
def served(
    request: pytest.FixtureRequest,
    both: Start,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Both]]:
    place = tmp_path_factory.mktemp("triton")
    KINDS[request.param].save(place / "model")
    with both(place / "model", place) as clients:
        yield request.param, clients


def arrays(kind: str, metadata: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return datatype and values of each column, of the rows in which no text is missing."""
    frame = KINDS[kind].frame
    if kind == "categorical":
        frame = frame[[isinstance(each, str) for each in frame["rare"]]]
    found = {}
    for described in metadata["inputs"]:
        values, datatype = frame[described["name"]], described["datatype"]
        texts = datatype == "BYTES"
        found[described["name"]] = (
            datatype,
            np.array([each.encode() for each in values], dtype=np.object_)
            if texts
            else values.to_numpy(dtype=DTYPES[datatype]),
        )
    return found


def raw_outputs(rest: Any, inputs: dict[str, tuple[str, Any]], names: list[str]) -> dict[str, Any]:
    """Return the outputs of REST in its binary form."""
    tensors = []
    for name, (datatype, values) in inputs.items():
        tensors.append(RestInput(name, list(values.shape), datatype))
        tensors[-1].set_data_from_numpy(values, binary_data=True)
    body, size = RestClient.generate_request_body(
        tensors, outputs=[RestOutput(name, binary_data=True) for name in names]
    )
    headers = {"Inference-Header-Content-Length": str(size), "Content-Type": "application/octet-stream"}
    answer = rest.post("/v2/models/model/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    parsed = RestClient.parse_response_body(answer.content, header_length=length)
    return {name: parsed.as_numpy(name) for name in names}


def test_messages_are_those_of_tritons_client() -> None:
    def shape(message: Descriptor) -> dict[str, Any]:
        fields = {
            each.name: (each.number, each.type, each.is_repeated, each.message_type and each.message_type.full_name)
            for each in message.fields
        }
        choices = {each.name: [field.name for field in each.fields] for each in message.oneofs}
        nested = {each.name: shape(each) for each in message.nested_types}
        return {"fields": fields, "choices": choices, "nested": nested, "map": message.GetOptions().map_entry}

    theirs = service_pb2.DESCRIPTOR.message_types_by_name

    assert CLASSES
    for name, known in CLASSES.items():
        assert shape(known.DESCRIPTOR) == shape(theirs[name]), name


def test_tritons_client_gets_the_bytes_of_rest(served: tuple[str, Both]) -> None:
    kind, clients = served
    metadata = clients.rest.get("/v2/models/model").json()
    inputs, names = arrays(kind, metadata), [each["name"] for each in metadata["outputs"]]
    wanted = raw_outputs(clients.rest, inputs, names)
    tensors = []
    for name, (datatype, values) in inputs.items():
        tensors.append(InferInput(name, list(values.shape), datatype))
        tensors[-1].set_data_from_numpy(values)

    answer = clients.triton.infer(
        "model", tensors, metadata["versions"][0], [InferRequestedOutput(name) for name in names], request_id="mine"
    )

    response = answer.get_response()
    assert (response.id, response.model_name) == ("mine", "model")
    assert [response.model_version] == metadata["versions"]
    assert [each.name for each in response.outputs] == names
    for name in names:
        found = answer.as_numpy(name)
        assert (found.dtype, found.shape) == (wanted[name].dtype, wanted[name].shape)
        np.testing.assert_array_equal(found, wanted[name])


def test_contents_get_contents_with_the_values_of_rest(served: tuple[str, Both]) -> None:
    kind, clients = served
    metadata = clients.rest.get("/v2/models/model").json()
    inputs, names = arrays(kind, metadata), [each["name"] for each in metadata["outputs"]]
    wanted = raw_outputs(clients.rest, inputs, names)
    request = service_pb2.ModelInferRequest(model_name="model")
    for name, (datatype, values) in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(tensor.contents, CONTENTS[datatype]).extend(values.tolist())

    response = service_pb2.ModelInferResponse.FromString(clients.infer(request).answer)

    assert not response.raw_output_contents
    assert response.id
    for tensor in response.outputs:
        values = getattr(tensor.contents, CONTENTS[tensor.datatype])
        expected = wanted[tensor.name]
        assert list(tensor.shape) == list(expected.shape)
        np.testing.assert_array_equal(np.array(values, dtype=expected.dtype).reshape(expected.shape), expected)


def test_metadata_is_that_of_rest(served: tuple[str, Both]) -> None:
    _, clients = served
    metadata = clients.rest.get("/v2/models/model").json()

    found = clients.triton.get_model_metadata("model", metadata["versions"][0])

    assert (found.name, list(found.versions), found.platform) == ("model", metadata["versions"], metadata["platform"])
    for key in ("inputs", "outputs"):
        tensors = [
            {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in getattr(found, key)
        ]
        assert tensors == metadata[key]


def test_server_and_model_are_ready(served_both: Both) -> None:
    triton = served_both.triton

    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.get_server_metadata().name == "model-service"


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_datatype_of_numbers_predicts_the_same(served_both: Both, datatype: str) -> None:
    rows = np.array([[1, 0, 3], [0, 1, 7]], NUMBERS[datatype])
    body = {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [2, 3], "data": rows.tolist()}]}
    wanted = served_both.rest.post(f"/v2/models/{MODEL}/infer", json=body).json()["outputs"]
    tensor = InferInput("rows", [2, 3], datatype)
    tensor.set_data_from_numpy(rows)
    request = message()
    request.inputs[0].datatype = datatype
    request.inputs[0].shape[:] = [2, 3]
    request.inputs[0].ClearField("contents")

    raw = served_both.triton.infer(MODEL, [tensor])

    assert raw.as_numpy("probabilities").ravel().tolist() == wanted[1]["data"]
    assert [each.decode() for each in raw.as_numpy("label")] == wanted[0]["data"]
    if datatype != "FP16":  # has no field of its own
        getattr(request.inputs[0].contents, CONTENTS[datatype]).extend(rows.ravel().tolist())
        response = service_pb2.ModelInferResponse.FromString(served_both.infer(request).answer)
        assert list(response.outputs[1].contents.fp32_contents) == wanted[1]["data"]


def test_more_rows_than_the_event_loop_handles_predict_the_same(
    both: Start, served_both: Both, saved: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(3).random((30_000, 3), dtype=np.float32)
    rows[:, 2] = 1
    tensor = InferInput("rows", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    few = InferInput("rows", [20, 3], "FP32")
    few.set_data_from_numpy(rows[:20])

    with both(saved, tmp_path, model_name=MODEL, max_rows=40_000) as clients:
        found = clients.triton.infer(MODEL, [tensor]).as_numpy("probabilities")

    assert found.shape == (30_000, 2)
    np.testing.assert_array_equal(found[:20], served_both.triton.infer(MODEL, [few]).as_numpy("probabilities"))


def test_one_output_may_be_requested(served_both: Both) -> None:
    request = message(outputs=[{"name": "probabilities"}])

    response = service_pb2.ModelInferResponse.FromString(served_both.infer(request).answer)

    assert [each.name for each in response.outputs] == ["probabilities"]


def test_example_of_the_documentation_predicts(served_both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    section = (ROOT / "docs/reference/protocols.md").read_text().partition("over gRPC\n\n")[2]
    program = section.partition("```python\n")[2].partition("```")[0]
    for shown, used in {"localhost:8003": served_both.address, "churn": MODEL, "51000]": "51000, 3]"}.items():
        assert shown in program
        program = program.replace(shown, used)

    exec(program, {"key": "unused"})  # noqa: S102 - the page's own text

    assert "[b'" in capsys.readouterr().out


def test_call_is_one_span_below_that_of_the_client(
    both: Start, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")

    with both(saved, tmp_path, model_name=MODEL) as clients:
        clients.infer(message(), [("traceparent", f"00-{TRACE}-{PARENT}-01")])
        (span,) = collector.spans(1)
    collector.close()

    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (f"POST /{SERVICE}/ModelInfer", TRACE, PARENT)
    found = attributes(span.attributes)
    assert (found["http.response.status_code"], found["model_service.rows"]) == (200, 1)


def test_payload_and_its_ids_are_those_of_rest(both: Start, saved: Path, tmp_path: Path) -> None:
    row = {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 0.25, 3]}]}
    lines = Lines()
    handler = logging.StreamHandler(lines.text)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)

    try:
        with both(saved, tmp_path, model_name=MODEL, payload_sample_ratio=1) as clients:
            clients.infer(message(), [("x-request-id", "mine")])
            clients.rest.post(f"/v2/models/{MODEL}/infer", json=row, headers={"X-Request-ID": "mine"})
            found = lines(2)
    finally:
        logging.getLogger().removeHandler(handler)

    first, second = ({key: value for key, value in line.items() if key != "time"} for line in found)
    assert first["request_id"] == "mine"
    assert first == second
