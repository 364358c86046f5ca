"""Compressed request and response bodies, with clients that this project did not write and with hostile data."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import requests
from backports import zstd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.endpoints.arrow import ARROW
from app.errors import DamagedBodyError, TooLargeError
from app.http import body, codings
from tests.app.harness import COLUMNS, MODEL, Running, running_service, serving, settings_for
from tests.app.kinds import KINDS

ROW = [0.5, 0.25, 3]
BODY = json.dumps({"columns": COLUMNS, "data": [ROW] * 150}).encode()
LIMIT = 20_000  # of the fixture client
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}
each_coding = pytest.mark.parametrize("coding", COMPRESS)
V2 = {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [150, 3], "data": ROW * 150}]}
SENT = [
    ("/predict", BODY, "application/json"),
    ("/explain", json.dumps({"columns": COLUMNS, "data": [ROW] * 3}).encode(), "application/json"),
    ("/invocations", json.dumps({"inputs": [ROW] * 150}).encode(), "application/json"),
    ("/invocations", b"mean radius,texture,count\n" + b"0.5,0.25,3\n" * 150, "text/csv"),
    (f"/v2/models/{MODEL}/infer", json.dumps(V2).encode(), "application/json"),
]


def send(client: TestClient, content: bytes, coding: str, path: str = "/predict", **headers: str) -> Any:
    return client.post(path, content=content, headers={"Content-Encoding": coding, **headers})


def answered(client: TestClient, accepted: str, content: bytes = BODY, path: str = "/predict") -> tuple[Any, bytes]:
    """Return the headers and the body of a response as they were sent."""
    with client.stream("POST", path, content=content, headers={"Accept-Encoding": accepted}) as answer:
        assert answer.status_code == 200
        return answer.headers, b"".join(answer.iter_raw())


@each_coding
@pytest.mark.parametrize(("path", "content", "kind"), SENT)
def test_each_endpoint_takes_each_coding(client: TestClient, path: str, content: bytes, kind: str, coding: str) -> None:
    plain = client.post(path, content=content, headers={"Content-Type": kind, "X-Request-ID": "same"})
    packed = send(client, COMPRESS[coding](content), coding, path, **{"Content-Type": kind, "X-Request-ID": "same"})

    assert (plain.status_code, packed.status_code) == (200, 200), packed.text
    assert packed.json() == plain.json()


def test_feedback_takes_compressed_labels(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "key").write_text("a-key-0123456789")
    KINDS["regression"].save(tmp_path / "model")
    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path, feedback_keys_dir=tmp_path / "keys")) as client:
        tokens = client.post("/predict", json=KINDS["regression"].body()).json()["tokens"]
        labels = json.dumps({"labels": [{"token": token, "label": 1} for token in tokens]}).encode()
        answer = send(client, zstd.compress(labels), "zstd", "/feedback")

    assert answer.json() == {"accepted": len(tokens), "rejected": []}


@each_coding
def test_body_may_have_the_limit_but_no_byte_more_after_decompression(client: TestClient, coding: str) -> None:
    fits, larger = BODY.ljust(LIMIT), BODY.ljust(LIMIT + 1)

    assert send(client, COMPRESS[coding](fits), coding).status_code == 200
    answer = send(client, COMPRESS[coding](larger), coding)

    assert (answer.status_code, answer.json()["type"]) == (413, "urn:model-service:too-large")
    assert answer.json()["detail"] == f"The decompressed body is larger than the limit of {LIMIT} bytes."


@each_coding
def test_bomb_is_refused_before_it_is_in_memory(coding: str) -> None:
    limit, bomb = 1_048_576, COMPRESS[coding](bytes(64 * 1_048_576))
    assert len(bomb) < limit
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            codings.decoded(bomb, codings.coding_of([coding.encode()]), limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * limit


def test_frame_with_a_huge_window_is_refused() -> None:
    options: Any = {zstd.CompressionParameter.window_log: 27}
    content = zstd.compress(bytes(2**26), options=options)

    with pytest.raises(DamagedBodyError, match="window must not exceed 8388608 bytes"):
        codings.decoded(content, "zstd", 2**30)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_concatenated_members_are_one_body_up_to_a_number(coding: str) -> None:
    compress, members = COMPRESS[coding], [b"a", b"", b"b" * 40_000, b"c"]

    assert codings.decoded(b"".join(map(compress, members)), coding, 99_999) == b"".join(members)
    most = compress(b"") * (codings.MOST_MEMBERS + 1)
    assert codings.decoded(most, coding, 9) == b""
    with pytest.raises(DamagedBodyError, match=f"more than one {coding} stream"):
        codings.decoded(most + compress(b""), coding, 9)


@settings(deadline=None)
@given(st.binary(max_size=70_000), st.sampled_from(codings.CODINGS), st.integers(0, 70_000))
@example(b"", "gzip", 0)
@example(bytes(60_000), "zstd", 60_000)
@example(bytes(60_000), "deflate", 59_999)
def test_codings_invert_each_other_within_the_limit(content: bytes, coding: str, limit: int) -> None:
    packed = codings.encoded(content, coding)

    assert DECOMPRESS[coding](packed) == content
    if len(content) <= limit:
        assert codings.decoded(packed, coding, limit) == content
    else:
        with pytest.raises(TooLargeError):
            codings.decoded(packed, coding, limit)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(codings.CODINGS), st.data())
def test_damaged_data_is_an_error_of_the_client_or_has_content_within_the_limit(
    content: bytes, coding: str, data: st.DataObject
) -> None:
    packed = bytearray(codings.encoded(content * 40, coding))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = codings.decoded(bytes(packed[: data.draw(st.integers(0, len(packed)))]), coding, 9000)
    except (DamagedBodyError, TooLargeError):
        return
    assert len(found) <= 9000


@each_coding
@pytest.mark.parametrize("damage", ["not compressed", "ends early", "more follows", "empty"])
def test_damaged_body_returns_400(client: TestClient, coding: str, damage: str) -> None:
    packed = COMPRESS[coding](BODY)
    content = {"not compressed": BODY, "ends early": packed[:-5], "more follows": packed + b"more", "empty": b""}[
        damage
    ]

    answer = send(client, content, coding)

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:model-service:damaged-body"), answer.text
    assert coding.removeprefix("x-") in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "gzip, zstd", "aes128gcm", "gzip;q=1", "\xff"])
@pytest.mark.parametrize("path", ["/predict", "/explain", "/invocations", f"/v2/models/{MODEL}/infer"])
def test_other_codings_return_415_with_the_accepted_ones(client: TestClient, path: str, coding: str) -> None:
    headers = {b"Content-Encoding": coding.encode("latin-1"), b"Content-Type": b"application/json"}

    answer = client.post(path, content=BODY, headers=headers)

    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "zstd, gzip, deflate")
    assert "accept" not in answer.headers


def test_several_lines_are_several_codings(client: TestClient) -> None:
    answer = client.post("/predict", content=BODY, headers=[("Content-Encoding", "gzip")] * 2)

    assert answer.status_code == 415
    assert answer.json()["detail"] == "The body has several codings; apply only one."


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "GZIP", "identity, gzip", "Zstd"])
def test_names_of_codings_have_no_case_and_identity_is_none(client: TestClient, coding: str) -> None:
    compress = COMPRESS.get(coding.lower().rpartition(" ")[2], bytes)

    assert send(client, compress(BODY), coding).status_code == 200


def test_refused_media_type_does_not_blame_the_coding(client: TestClient) -> None:
    answer = client.post("/predict", content=BODY, headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.headers["accept"]) == (415, f"application/json, {ARROW}")
    assert "accept-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None), ("identity", None), ("br", None), ("br, compress", None),
        ("gzip", "gzip"), ("GZip", "gzip"), ("x-gzip", "gzip"), ("deflate", "deflate"), ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate, br", "gzip"), ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None), ("zstd;q=0.000, gzip", "gzip"), ("gzip;q=0.001", "gzip"), ("gzip ; Q=0.5", "gzip"),
        ("*", "zstd"), ("*;q=0", None), ("zstd;q=0, *", "gzip"), ("gzip;q=0.5, *;q=0.1", "gzip"),
        ("identity, gzip;q=0.5", None), ("identity;q=0.5, gzip", "gzip"), ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=2", None), ("gzip;q=x, deflate", "deflate"), (",, gzip,", "gzip"), ("gzip" + "," * 300, None),
    ],
)  # fmt: skip
def test_client_decides_whether_a_response_is_compressed(client: TestClient, accepted: str, coding: str | None) -> None:
    headers, content = answered(client, accepted)

    assert headers.get("content-encoding") == coding
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert int(headers["content-length"]) == len(content)
    plain = DECOMPRESS[coding](content) if coding else content
    assert len(json.loads(plain)["predictions"]) == 150
    assert coding is None or len(content) < len(plain) / 2


@pytest.mark.parametrize(("accepted", "coding"), [("zstd", None), ("zstd, identity;q=0", "zstd"), ("*;q=0", None)])
def test_small_response_is_compressed_only_if_the_client_takes_nothing_else(
    client: TestClient, accepted: str, coding: str | None
) -> None:
    headers, _ = answered(client, accepted, json.dumps({"instances": [ROW]}).encode())

    assert (headers.get("content-encoding"), headers["vary"]) == (coding, "Accept, Accept-Encoding")


@pytest.mark.parametrize(("path", "content", "kind"), SENT)
def test_each_endpoint_compresses_its_response(client: TestClient, path: str, content: bytes, kind: str) -> None:
    sent = {"Content-Type": kind, "X-Request-ID": "same"}
    plain = client.post(path, content=content, headers={**sent, "Accept-Encoding": "identity"})
    packed = client.post(path, content=content, headers={**sent, "Accept-Encoding": "gzip, identity;q=0"})

    assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")
    assert packed.content == plain.content


def test_errors_are_not_compressed(client: TestClient) -> None:
    answer = client.post("/predict", content=b"{", headers={"Accept-Encoding": "gzip, identity;q=0"})

    assert (answer.status_code, answer.headers.get("content-encoding")) == (400, None)


@pytest.mark.parametrize(("accepted", "coding"), [("gzip;q=0", None), ("gzip", "gzip"), ("zstd", None)])
def test_metrics_respect_weights(client: TestClient, accepted: str, coding: str | None) -> None:
    assert client.get("/metrics", headers={"Accept-Encoding": accepted}).headers.get("content-encoding") == coding


@pytest.fixture(scope="module")
def here(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(saved.as_uri(), tmp_path_factory.mktemp("codings")) as found:
        yield found


@pytest.mark.parametrize("coding", codings.CODINGS)
@pytest.mark.parametrize("library", [httpx, httpx2, requests], ids=lambda each: str(each.__name__))
def test_clients_decode_what_they_ask_for(here: Running, library: Any, coding: str) -> None:
    # httpx decodes zstd with a package that is not installed here.
    accepted = "zstd;q=0.1, gzip" if (library, coding) == (httpx, "zstd") else coding
    rows = json.dumps({"columns": COLUMNS, "data": [ROW] * 1000}).encode()
    content = {"data" if library is requests else "content": COMPRESS[coding](rows)}
    headers = {"Content-Encoding": coding, "Content-Type": "application/json", "Accept-Encoding": accepted}

    answer = library.post(f"{here.address}/predict", headers=headers, **content)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-encoding"] == ("gzip" if "gzip" in accepted else coding)
    plain = library.post(f"{here.address}/predict", headers={"Accept-Encoding": "identity"}, json=json.loads(rows))
    assert answer.json() == plain.json()
    assert len(answer.json()["predictions"]) == 1000


def test_defaults_of_clients_get_compressed_responses(here: Running) -> None:
    for library, coding in ((httpx, "gzip"), (httpx2, "zstd"), (requests, "zstd")):
        answer: Any = library.post(f"{here.address}/predict", json={"columns": COLUMNS, "data": [ROW] * 1000})

        assert (answer.status_code, answer.headers["content-encoding"]) == (200, coding)


def test_small_view_of_a_compressed_body_never_exceeds_what_the_event_loop_may_take() -> None:
    large, small = bytes(body.INLINE_BYTES + 1), bytes(body.INLINE_BYTES)

    def received(content: bytes, coding: str = "") -> body.Body:
        return body.Body([content[:9], content[9:]], len(content), coding, 10**6)

    assert received(gzip.compress(large), "gzip").small is None
    assert received(gzip.compress(small), "gzip").small == small
    assert received(gzip.compress(large), "gzip").content == large
    assert received(large).small is None
    assert received(large).content == large
    assert received(small).small == small
