"""Media types that POST /predict accepts."""

import json

import pytest
from starlette.testclient import TestClient

from app.endpoints.arrow import ARROW
from tests.app.harness import COLUMNS

BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/json; charset=utf-8", "Application/JSON", "application/x.y+json"]
)
def test_json_is_accepted_with_any_json_type_and_without_type(client: TestClient, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}

    assert client.post("/predict", content=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "text/json", "", "application/jso"]
)
def test_other_types_return_415_with_the_accepted_ones(client: TestClient, kind: str) -> None:
    answer = client.post("/predict", content=BODY, headers={"Content-Type": kind})

    assert (answer.status_code, answer.headers["accept"]) == (415, f"application/json, {ARROW}")
    wanted = f"The body must be JSON or an Arrow IPC stream: send it with Content-Type: application/json or {ARROW}."
    assert answer.json()["detail"] == wanted
