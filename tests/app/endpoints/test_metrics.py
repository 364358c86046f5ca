"""The endpoint GET /metrics, and the HTTP metrics in its response."""

import gzip

from starlette.testclient import TestClient

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}


def test_http_metrics_have_routes_and_group_unknown_paths(client: TestClient) -> None:
    client.post("/predict", json={"instances": [ROW]})
    client.get("/random/1")
    client.get("/random/2")

    text = client.get("/metrics").text

    assert 'path="/predict",status_code="200"' in text
    assert 'path="__unknown__",status_code="404"' in text
    assert "/random" not in text
    assert 'path="/metrics"' not in text
    assert 'path="/health' not in text


def test_unknown_method_returns_405_and_creates_no_series(client: TestClient) -> None:
    answer = client.request("ATTACK", "/predict")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    assert "ATTACK" not in client.get("/metrics").text


def test_metrics_negotiate_format_and_compression(client: TestClient) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    with client.stream("GET", "/metrics", headers=accept) as answer:
        raw = b"".join(answer.iter_raw())

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert gzip.decompress(raw).endswith(b"# EOF\n")
    assert (
        client.get("/metrics", headers={"Accept-Encoding": "identity"}).headers["content-type"].startswith("text/plain")
    )
