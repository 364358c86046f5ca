"""Request IDs, methods and series of every request."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.harness import listening, logged, settings_for

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}
MADE = re.compile("[0-9a-f]{32}")


@pytest.mark.parametrize("path", ["/predict", "/model", "/metrics", "/health/live", "/nothing"])
def test_request_id_is_returned(client: TestClient, path: str) -> None:
    method = "POST" if path == "/predict" else "GET"

    answer = client.request(method, path, headers={"X-Request-ID": "Root=1-67891233:a/b+c@d_e.f-g"})

    assert answer.headers.get_list("x-request-id") == ["Root=1-67891233:a/b+c@d_e.f-g"]


def test_missing_request_id_is_generated(client: TestClient) -> None:
    ids = [client.get("/health/live").headers["x-request-id"] for _ in range(2)]

    assert all(MADE.fullmatch(found) for found in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("sent", [b"", b"a b", b"a\tb", b'"', b"\xe4", b"x" * 129])
def test_invalid_request_id_is_replaced(client: TestClient, sent: bytes) -> None:
    answer = client.get("/health/live", headers={b"X-Request-ID": sent})

    assert MADE.fullmatch(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/predict", 400), ("GET", "/predict", 405), ("GET", "/nothing", 404), ("ATTACK", "/predict", 405)],
)
def test_problem_contains_the_request_id(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers={"X-Request-ID": "abc"})

    assert answer.status_code == status
    assert (answer.headers["x-request-id"], answer.json()["request_id"]) == ("abc", "abc")


@pytest.mark.parametrize("count", [1, 101])  # 101 rows run in a thread
def test_log_lines_contain_the_request_id(client: TestClient, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    booster = client.app.state.service.loaded.model.booster  # type: ignore[attr-defined]
    monkeypatch.setattr(booster, "predict", lambda *_, **__: 1 / 0)
    with logged() as lines:
        client.post("/predict", json={"instances": [ROW] * count}, headers={"X-Request-ID": "abc"})

    assert [line["request_id"] for line in lines if line["logger"].startswith("app")] == ["abc"]


def test_stripped_root_path_does_not_hide_the_routes(saved: Path, tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        async with listening(settings_for(saved.as_uri(), tmp_path, root_path="/churn")) as here:
            body = json.dumps({"instances": [ROW]}).encode()
            asked = [("POST", "/predict", body), ("GET", "/model", b""), ("GET", "/predict", b"")]
            return [(await here.ask(*each)).status for each in asked]

    assert asyncio.run(scenario()) == [200, 200, 405]


@pytest.mark.parametrize("path", ["/predict/", "/invocations/", "/model/", "/health/live/"])
def test_path_with_a_slash_at_its_end_is_unknown(client: TestClient, path: str) -> None:
    """A redirect would send clients from https:// to http:// behind a proxy that terminates TLS."""
    method = "POST" if path in ("/predict/", "/invocations/") else "GET"

    answer = client.request(method, path, follow_redirects=False)

    assert (answer.status_code, "location" in answer.headers) == (404, False)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_head_returns_the_status_of_get_without_a_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)

    assert (head.status_code, head.headers["content-type"]) == (get.status_code, get.headers["content-type"])
