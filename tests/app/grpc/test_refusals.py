"""Refused calls over gRPC: invalid messages, keys, quotas, overload, hostile clients."""

import json
import random
import socket
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.app.grpc.clients import METHODS, SERVICE, Both, Ended, Start, ended, message
from tests.app.harness import MODEL

Code = grpc.StatusCode
KEY = "a-key-of-16-chars-or-more"
WAITED = {"retry-after": "1", "grpc-retry-pushback-ms": "1000"}


def tensor(**changes: Any) -> dict[str, Any]:
    """Return a request with one changed tensor."""
    contents = {"contents": {"fp32_contents": [0.5, 0.25, 3]}} if "contents" not in changes else {}
    return {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 3]} | contents | changes]}


RAW: dict[str, Any] = {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 3]}]}
INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({"inputs": []}, "inputs must be a list of at least one tensor"),
    "unknown datatype": (tensor(datatype="FP8"), "must have one of the datatypes FP16"),
    "FP16 in contents": (tensor(datatype="FP16"), "the datatype FP16, whose values must be in raw_input_contents"),
    "wrong field": (tensor(datatype="FP64"), "those of the datatype FP64 must be in fp64_contents"),
    "too few values": (tensor(shape=[2, 3]), "has 3 values, but its shape [2, 3] has 6"),
    "no values": (tensor(contents={}), "has 0 values, but its shape [1, 3] has 3"),
    "three dimensions": (tensor(shape=[1, 3, 1]), "must have the shape [rows], [rows, 1] or [rows, columns]"),
    "negative shape": (tensor(shape=[-1, 3]), "with sizes of at least 1"),
    "huge shape": (tensor(shape=[1, 2**40]), "must have the shape"),
    "wrong columns": (tensor(shape=[1, 1], contents={"fp32_contents": [1]}), "'rows'"),
    "range": (
        tensor(datatype="INT8", contents={"int_contents": [1, 2, 300]}),
        "values in data that do not fit in INT8",
    ),
    "no UTF-8": (
        tensor(datatype="BYTES", contents={"bytes_contents": [b"\xff", b"", b""]}),
        "has bytes_contents whose string 0 is not valid UTF-8",
    ),
    "cell": (tensor(contents={"fp32_contents": [0.5, 0.25, 3.5]}), "row 0, column 'count'"),
    "shared memory": (
        tensor(parameters={"shared_memory_region": {"string_param": "mine"}}),
        "is in shared memory, which is not supported",
    ),
    "unknown output": ({"outputs": [{"name": "other"}]}, "Output 0 must be an object with a name"),
    "raw and contents": (tensor() | {"raw_input_contents": [b""]}, "has both contents and raw_input_contents"),
    "raw without inputs": (RAW | {"raw_input_contents": [b"", b""]}, "one entry for each of the 1 inputs, not 2"),
    "raw too short": (RAW | {"raw_input_contents": [b"123"]}, "has 3 bytes of binary data, but its shape has 12"),
    "raw string beyond its end": (
        {"inputs": [{"name": "rows", "datatype": "BYTES", "shape": [1, 3]}], "raw_input_contents": [b"\xff" * 12]},
        "has binary data that ends within its string 0",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_request_names_the_problem(served_both: Both, case: str) -> None:
    fields, problem = INVALID[case]

    found = served_both.infer(message(**fields))

    assert found.code == Code.INVALID_ARGUMENT
    assert problem in found.detail
    assert found.metadata["x-request-id"]


def test_request_id_of_the_client_is_returned(served_both: Both) -> None:
    for request in (message(), message(inputs=[])):
        assert served_both.infer(request, [("x-request-id", "mine-1")]).metadata["x-request-id"] == "mine-1"


def test_bytes_that_are_not_a_message_are_refused(served_both: Both) -> None:
    for method in METHODS:
        found = served_both.call(method, b"\xff\xff\xff")

        assert found.code == Code.INVALID_ARGUMENT
        assert found.detail.startswith(f"The message is not a valid inference.{method}Request; generate the client")


def test_other_models_and_versions_are_not_found(served_both: Both) -> None:
    other, version = message(model_name="other"), message(model_version="17")
    named = service_pb2.ModelMetadataRequest(name="other").SerializeToString()

    assert served_both.infer(other).detail == f"The model 'other' is not served here; {MODEL!r} is."
    assert f"Version '17' of {MODEL!r} is not served here" in served_both.infer(version).detail
    refused = [served_both.infer(other), served_both.infer(version), served_both.call("ModelMetadata", named)]
    assert {each.code for each in refused} == {Code.NOT_FOUND}
    assert served_both.call("RepositoryIndex", b"").code == Code.UNIMPLEMENTED


def test_too_many_rows_and_too_many_bytes_exhaust_the_resource(served_both: Both) -> None:
    rows = served_both.infer(message([[0.5, 0.25, 3]] * 201))
    size = served_both.call("ModelInfer", bytes(20_001))

    assert (rows.code, rows.detail) == (Code.RESOURCE_EXHAUSTED, "Input 'rows' has 201 rows; the limit is 200.")
    assert size.code == Code.RESOURCE_EXHAUSTED
    assert "20001 vs. 20000" in size.detail
    assert "retry-after" not in rows.metadata


def test_compressed_message_is_refused_before_it_is_decompressed(served_both: Both) -> None:
    found = served_both.call("ModelInfer", bytes(10_000_000), compression=grpc.Compression.Gzip)

    assert found.code == Code.UNIMPLEMENTED


def test_calls_are_counted_like_requests(served_both: Both) -> None:
    def counts() -> dict[str, float]:
        lines = served_both.rest.get("/metrics").text.splitlines()
        named = ("http_server_requests_total{", "model_predictions_total{", "model_errors_total{")
        return {each.rpartition(" ")[0]: float(each.rpartition(" ")[2]) for each in lines if each.startswith(named)}

    served_both.infer(message()), served_both.infer(message(inputs=[]))
    before = counts()

    served_both.infer(message([[0.5, 0.25, 3]] * 7)), served_both.infer(message(inputs=[]))

    after = counts()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    requests = {name: count for name, count in grown.items() if SERVICE in name}
    assert list(requests.values()) == [1, 1]
    assert [code for code in ("200", "422") if any(f'status_code="{code}"' in name for name in requests)] == [
        "200",
        "422",
    ]
    assert all(f'path="/{SERVICE}/ModelInfer"' in name for name in requests)
    assert 7 in [count for name, count in grown.items() if name.startswith("model_predictions_total")]
    assert 1 in [count for name, count in grown.items() if 'reason="invalid_input"' in name]


def test_every_method_requires_a_key(both: Start, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "web").write_text(KEY)
    infer = message().SerializeToString()

    with both(saved, tmp_path, model_name=MODEL, api_keys_dir=tmp_path / "keys") as clients:
        for method in METHODS:
            for given in ((), [("authorization", "Bearer not-the-key-of-anyone")], [("authorization", KEY)]):
                found = clients.call(method, infer, given)
                assert (found.code, found.detail) == (
                    Code.UNAUTHENTICATED,
                    "A valid API key is required; send it as Authorization: Bearer <key>.",
                )
                assert found.metadata["www-authenticate"] == "Bearer"
        right = [("authorization", f"Bearer {KEY}")]
        assert clients.call("ModelInfer", infer, right).code == Code.OK
        assert clients.call("ServerLive", b"", right).code == Code.OK
        assert 'model_caller_requests_total{caller="web"' in clients.rest.get("/metrics").text


def test_quota_refuses_predictions_only_and_says_when_to_retry(both: Start, saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "quotas.json"
    file.write_text(json.dumps({"default": {"requestsPerSecond": 1 / 3600, "burstSeconds": 3600}, "owners": {}}))

    with both(saved, tmp_path, model_name=MODEL, quotas_file=file) as clients:
        assert all(clients.triton.is_server_ready() for _ in range(3))
        first, second = clients.infer(message()), clients.infer(message())

    assert first.code == Code.OK
    assert first.metadata["ratelimit"].startswith('"requests";r=0')
    assert second.code == Code.RESOURCE_EXHAUSTED
    assert "The quota of this caller is used up" in second.detail
    seconds = int(second.metadata["retry-after"])
    assert 0 < seconds <= 3600
    assert second.metadata["grpc-retry-pushback-ms"] == str(seconds * 1000)


def test_overload_is_unavailable_with_a_retry(both: Start, saved: Path, tmp_path: Path) -> None:
    with both(saved, tmp_path, model_name=MODEL, max_concurrency=1, queue_size=0) as clients:
        app: Any = clients.rest.app
        limits = app.state.service.limits
        assert limits.enter("another caller")
        refused = clients.infer(message())
        limits.leave("another caller")
        answered = clients.infer(message())

    assert (refused.code, answered.code) == (Code.UNAVAILABLE, Code.OK)
    assert refused.detail == "All slots are in use and the queue is full; try again later."
    assert refused.metadata.items() >= WAITED.items()


def test_model_that_is_not_loaded_is_unavailable(both: Start, saved: Path, tmp_path: Path) -> None:
    with both(saved, tmp_path, model_name=MODEL) as clients:
        app: Any = clients.rest.app
        loaded, app.state.service.loaded = app.state.service.loaded, None
        refused, ready = clients.infer(message()), clients.triton.is_server_ready()
        app.state.service.loaded = loaded
        again = clients.infer(message())

    assert (refused.code, ready, again.code) == (Code.UNAVAILABLE, False, Code.OK)
    assert refused.metadata["retry-after"] == "5"


def test_slow_messages_end_and_hold_up_nobody(served_both: Both) -> None:
    never = threading.Event()

    def silent() -> Any:
        never.wait(300)
        yield b""

    call = served_both.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    slow = [call.future(silent()) for _ in range(20)]
    try:
        assert served_both.infer(message()).code == Code.OK
        found = [ended(each.exception()) for each in slow]
    finally:
        never.set()

    assert {each.code for each in found} == {Code.DEADLINE_EXCEEDED}
    assert {each.detail for each in found} == {"The body did not arrive within 1 s."}


def test_client_that_leaves_holds_no_slot(served_both: Both) -> None:
    never = threading.Event()
    app: Any = served_both.rest.app

    def silent() -> Any:
        never.wait(300)
        yield b""

    calls = [served_both.channel.stream_unary(f"/{SERVICE}/ModelInfer").future(silent()) for _ in range(40)]
    for each in calls:
        each.cancel()
    never.set()

    assert served_both.infer(message()).code == Code.OK
    assert app.state.service.limits.enter("someone")
    app.state.service.limits.leave("someone")


def test_bytes_that_are_not_http_2_do_no_harm(served_both: Both) -> None:
    port = int(served_both.address.rpartition(":")[2])
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500, b"\0" * 100_000):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(300)
            try:
                client.sendall(content)
                while client.recv(4096):
                    pass
            except ConnectionError:
                pass

    assert served_both.infer(message()).code == Code.OK


def test_damaged_messages_are_answered_or_refused_without_a_fault(served_both: Both) -> None:
    drawn = random.Random(24)  # noqa: S311
    raw = message(**RAW | {"raw_input_contents": [bytes(12)]}).SerializeToString()
    found: list[Ended] = []
    for original in (message().SerializeToString(), raw):
        for _ in range(150):
            damaged = bytearray(original)
            for _ in range(drawn.randint(1, 4)):
                damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
            found.append(served_both.call("ModelInfer", bytes(damaged[: drawn.randint(1, len(damaged))])))

    codes = {each.code for each in found}
    assert codes <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED}
    assert Code.INVALID_ARGUMENT in codes
