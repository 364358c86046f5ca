"""The endpoint POST /explain: XGBoost's own contributions, without delaying predictions."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from jsonschema import Draft202012Validator
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from app.model.booster import Booster
from app.model.contract import MODEL_FILE
from tests.app.harness import COLUMNS, MODEL, Answer, listening, settings_for
from tests.app.kinds import KINDS, ROWS

ROW = [0.5, 0.25, 3]
BODY = json.dumps({"columns": COLUMNS, "data": [ROW]}).encode()


@pytest.fixture(scope="module")
def explained(kind: str, served: tuple[TestClient, Any]) -> tuple[TestClient, Any, Any]:
    """Yield a client of the service, the logged model and the explanations of all rows."""
    client, model = served
    answer = client.post("/explain", json=KINDS[kind].body())
    assert answer.status_code == 200, answer.text
    return client, model, answer.json()


def test_contributions_and_margins_are_xgboosts_own_bit_for_bit(kind: str, explained: Any) -> None:
    client, model, answer = explained
    booster: xgb.Booster = model if isinstance(model, xgb.Booster) else model.get_booster()
    trees = (0, 0) if isinstance(model, xgb.Booster) else (0, model.best_iteration + 1)
    rows = KINDS[kind].matrix()
    contributions = booster.predict(rows, pred_contribs=True, strict_shape=True, iteration_range=trees)
    margins = booster.predict(rows, output_margin=True, strict_shape=True, iteration_range=trees)
    assert np.abs(contributions[..., :-1]).max() > 0

    outputs = [row["outputs"] for row in answer["explanations"]]

    names = [column["name"] for column in client.get("/model").json()["signature"]]
    assert all(list(output["contributions"]) == names for row in outputs for output in row)
    found = [[[*each["contributions"].values(), each["base_value"]] for each in row] for row in outputs]
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), contributions)
    found_margins = np.array([[each["margin"] for each in row] for row in outputs], dtype=np.float32)
    np.testing.assert_array_equal(found_margins, margins)


def test_base_value_and_contributions_sum_to_the_margin(explained: Any) -> None:
    for row in explained[2]["explanations"]:
        for output in row["outputs"]:
            total = output["base_value"] + sum(output["contributions"].values())
            assert total == pytest.approx(output["margin"], rel=1e-5, abs=2e-6)


def test_predictions_are_those_of_predict(kind: str, explained: Any) -> None:
    client, _, answer = explained
    predicted = client.post("/predict", json=KINDS[kind].body()).json()

    assert [row["prediction"] for row in answer["explanations"]] == predicted["predictions"]
    assert answer["model"] == predicted["model"]


def test_each_margin_names_its_class(explained: Any) -> None:
    client, _, answer = explained
    known = client.get("/model").json()
    outputs = answer["explanations"][0]["outputs"]
    found = [output.get("class") for output in outputs]

    if known["task"] == "binary":
        assert found == known["classes"][1:]
    elif known["classes"]:
        assert found == known["classes"]
    else:
        prediction = answer["explanations"][0]["prediction"]
        assert found == [None] * (len(prediction) if isinstance(prediction, list) else 1)


def test_openapi_describes_explanations(kind: str, explained: Any) -> None:
    client, _, answer = explained
    openapi = client.get("/openapi.json").json()
    schema = openapi["paths"]["/explain"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]

    Draft202012Validator(schema | {"components": openapi["components"]}).validate(answer)
    asked = openapi["paths"]["/explain"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator(asked).validate(KINDS[kind].body())


def test_single_records_are_explained_as_in_a_batch(kind: str, explained: Any) -> None:
    client, _, answer = explained
    body = KINDS[kind].body()
    for number in (0, ROWS - 1):
        record = dict(zip(body["columns"], body["data"][number], strict=True))
        alone = client.post("/explain", json={"instances": [record]}).json()
        assert alone["explanations"] == [answer["explanations"][number]]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"instances": [dict(zip(COLUMNS, ROW, strict=True)) | {"texture": "x"}]}}, 422),
        ({"json": {"instances": []}}, 422),
        ({"content": b"{"}, 400),
        ({"content": b"x" * 20_001}, 413),
        ({"content": BODY, "headers": {"Content-Encoding": "gzip"}}, 400),
        ({"content": BODY, "headers": {"Content-Encoding": "br"}}, 415),
        ({"json": {"columns": COLUMNS, "data": [ROW] * 201}}, 413),
    ],
)
def test_bad_input_is_rejected_as_in_predict(client: TestClient, sent: dict[str, Any], status: int) -> None:
    refused, wanted = (client.post(path, **sent) for path in ("/explain", "/predict"))

    assert refused.status_code == wanted.status_code == status
    without = [{key: value for key, value in each.json().items() if key != "request_id"} for each in (refused, wanted)]
    assert without[0] == without[1]
    assert refused.headers["x-request-id"] == refused.json()["request_id"]


def test_too_many_rows_to_explain_return_413(client: TestClient) -> None:
    answer = client.post("/explain", json={"columns": COLUMNS, "data": [ROW] * 101})

    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body has 101 rows; the limit for explanations is 100."


def test_other_method_returns_405(client: TestClient) -> None:
    assert client.get("/explain").status_code == 405


def test_rows_and_errors_are_counted_separately_from_predictions(client: TestClient) -> None:
    version = client.get("/model").json()["version"]

    def samples() -> list[float]:
        labels = {"model_name": MODEL, "model_version": version}
        reason = labels | {"reason": "invalid_input"}
        known = [("model_explanations_total", labels), ("model_explanation_errors_total", reason)]
        known += [("model_predictions_total", labels), ("model_errors_total", reason)]
        return [REGISTRY.get_sample_value(name, found) or 0 for name, found in known]

    before = samples()
    client.post("/explain", json={"columns": COLUMNS, "data": [ROW] * 7})
    client.post("/explain", json={"instances": [{}]})

    assert np.subtract(samples(), before).tolist() == [7, 1, 0, 0]
    assert 'path="/explain",status_code="200"' in client.get("/metrics").text


def test_contributions_in_several_threads_do_not_mix(saved: Path) -> None:
    booster = Booster((saved / MODEL_FILE).read_bytes())
    rows = np.random.default_rng(1).random((400, len(COLUMNS)), dtype=np.float32)
    wanted = booster.contributions(rows)
    wrong = []

    def run(part: slice) -> None:
        for _ in range(30):
            if not np.array_equal(booster.contributions(rows[part]), wanted[part]):
                wrong.append(part)

    threads = [threading.Thread(target=run, args=(slice(i * 100, i * 100 + 100),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_explanations_have_their_own_slot_and_queue(saved: Path, tmp_path: Path) -> None:
    settings = settings_for(saved.as_uri(), tmp_path, max_concurrency=1, queue_size=1, max_explain_rows=1000)
    body = json.dumps({"columns": COLUMNS, "data": [ROW] * 1000}).encode()

    async def scenario() -> tuple[list[Answer], list[Answer]]:
        async with listening(settings) as here:
            explaining = [asyncio.create_task(here.ask("POST", "/explain", body)) for _ in range(8)]
            predicted = []
            while not all(task.done() for task in explaining):
                predicted.append(await here.ask("POST", "/predict", BODY))
            return predicted, [task.result() for task in explaining]

    predicted, found = asyncio.run(scenario())

    assert {answer.status for answer in predicted} == {200}
    statuses = [answer.status for answer in found]
    assert statuses.count(200) >= 2
    assert statuses.count(503) == 8 - statuses.count(200) > 0
    refused = next(answer for answer in found if answer.status == 503)
    assert refused.headers["retry-after"] == "1"


def test_slow_explanation_returns_504_and_its_thread_ends_soon(saved: Path, tmp_path: Path) -> None:
    short = {"request_timeout_seconds": 0.5, "queue_timeout_seconds": 0.5}
    large = {"max_rows": 10**6, "max_explain_rows": 10**6, "max_body_bytes": 10**8}
    body = json.dumps({"columns": COLUMNS, "data": [ROW] * 200_000}).encode()

    async def scenario() -> tuple[Answer, float, Answer]:
        async with listening(settings_for(saved.as_uri(), tmp_path, **short, **large)) as here:
            late = await here.ask("POST", "/explain", body)
            begin = time.monotonic()
            while (after := await here.ask("POST", "/explain", BODY)).status in (503, 504):  # no slot, or too late
                pass
            return late, time.monotonic() - begin, after

    late, seconds, after = asyncio.run(scenario())

    assert (late.status, late.headers["retry-after"]) == (504, "1")
    assert late.json()["detail"] == "The request took longer than 0.5 s; send fewer rows."
    assert after.status == 200
    assert seconds < 2
