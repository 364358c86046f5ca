"""Pages of other sites: which may call the API from a browser, and what browsers send without asking."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.harness import COLUMNS, serving, settings_for

SHOP, OTHER = "https://shop.example", "https://other.example"
BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()
KEY = "a-key-0123456789"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def guarded(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Client of a service with an API key that the pages of the shop may call."""
    place = tmp_path_factory.mktemp("cors")
    (place / "keys").mkdir()
    (place / "keys" / "shop").write_text(KEY)
    with serving(settings_for(saved.as_uri(), place, cors_origins=(SHOP,), api_keys_dir=place / "keys")) as client:
        yield client


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/model"])
def test_preflight_of_an_allowed_origin_needs_no_key(guarded: TestClient, path: str) -> None:
    answer = guarded.options(path, headers={"Origin": SHOP, **ASKED})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["x-request-id"]


def test_preflight_of_a_different_origin_is_refused(guarded: TestClient) -> None:
    answer = guarded.options("/predict", headers={"Origin": OTHER, **ASKED})

    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), ("wrong", 401)])
def test_scripts_of_an_allowed_origin_read_responses_and_errors(guarded: TestClient, key: str, status: int) -> None:
    headers = {"Origin": SHOP, "Authorization": f"Bearer {key}", **JSON}

    answer = guarded.post("/predict", content=BODY, headers=headers)

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, SHOP)
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


def test_without_origins_no_page_may_call(client: TestClient) -> None:
    preflight = client.options("/predict", headers={"Origin": SHOP, **ASKED})
    answer = client.post("/predict", content=BODY, headers={"Origin": SHOP, **JSON})

    assert (preflight.status_code, answer.status_code) == (405, 200)
    assert not [name for each in (preflight, answer) for name in each.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/invocations"])
@pytest.mark.parametrize("origin", [OTHER, "null", "https://testserver.example"])
def test_request_of_a_foreign_page_without_a_type_is_refused(client: TestClient, path: str, origin: str) -> None:
    answer = client.post(path, content=BODY, headers={"Origin": origin})

    assert answer.status_code == 415
    assert "A page of another site must send a Content-Type." in answer.text


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://testserver"}, {"Origin": OTHER, **JSON}])
def test_other_requests_are_not_affected(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/predict", content=BODY, headers=headers).status_code == 200
