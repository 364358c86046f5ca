"""MLflow's scoring protocol, tested with MLflow's client and against MLflow's server."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.endpoints.protocols.mlflow_reference import application, command
from tests.app.harness import running_service, serving, settings_for
from tests.app.kinds import KINDS

# All forms of pyfunc's predictions (number, numbers, class index), and models with missing values and unusual columns.
ASKED = ["binary", "multiclass", "classifier", "classifier of three", "missing", "odd names"]
ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}
Sent = tuple[bytes, str]


@pytest.fixture(scope="module", params=ASKED)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """Yield the kind of model and the addresses of the reference and of the service."""
    folder = tmp_path_factory.mktemp("mlflow-protocol")
    KINDS[request.param].save(folder / "model")
    reference = command if request.param == ASKED[0] else application  # the command takes 15 s to start
    with reference(folder) as theirs, running_service((folder / "model").as_uri(), folder) as ours:
        yield request.param, theirs, ours.address


def as_json(body: Any) -> Sent:
    return json.dumps(body).encode(), "application/json"  # contains NaN, like requests of MLflow's client


def records(frame: pd.DataFrame) -> Any:
    return frame.to_dict(orient="records")


FORMS: dict[str, Callable[[pd.DataFrame], Sent]] = {
    "split": lambda frame: as_json({"dataframe_split": frame.to_dict(orient="split")}),
    "split in another order": lambda frame: as_json({"dataframe_split": frame.iloc[:, ::-1].to_dict(orient="split")}),
    "split with more columns": lambda frame: as_json({"dataframe_split": frame.assign(x=1).to_dict(orient="split")}),
    "records": lambda frame: as_json({"dataframe_records": records(frame)}),
    "instances": lambda frame: as_json({"instances": records(frame)}),
    "instances of columns": lambda frame: as_json({"instances": frame.to_dict(orient="list")}),
    "inputs": lambda frame: as_json({"inputs": frame.to_dict(orient="list")}),
    "inputs of records": lambda frame: as_json({"inputs": records(frame)}),
    "inputs of one row": lambda frame: as_json({"inputs": records(frame)[0]}),
    "params": lambda frame: as_json({"inputs": records(frame), "params": {"unknown": 1}}),
    "CSV": lambda frame: (frame.to_csv(index=False).encode(), "text/csv"),
    "CSV with an index": lambda frame: (frame.to_csv().encode(), "text/csv; charset=utf-8"),
}


def test_predictions_equal_the_reference_in_all_forms(both: tuple[str, str, str]) -> None:
    kind, reference, ours = both
    frame = KINDS[kind].frame.head(20)
    for name, form in FORMS.items():
        body, media = form(frame)

        wanted, found = (
            requests.post(f"{each}/invocations", data=body, headers={"Content-Type": media}, timeout=300)
            for each in (reference, ours)
        )

        assert wanted.status_code == found.status_code == 200, (name, wanted.text, found.text)
        assert found.json() == wanted.json(), name
        assert found.headers["content-type"] == wanted.headers["content-type"]
    assert len({json.dumps(each) for each in wanted.json()["predictions"]}) > 1  # otherwise equality proves little


def test_errors_have_the_format_and_status_of_the_reference(both: tuple[str, str, str]) -> None:
    kind, reference, ours = both
    record = records(KINDS[kind].frame.head(1))[0]
    first = next(iter(record))
    bodies: list[Any] = [{}, [], {"inputs": [record], "instances": [record]}, {"inputs": [record | {first: "x"}]}]
    for data, media in map(as_json, bodies):
        wanted, found = (
            requests.post(f"{each}/invocations", data=data, headers={"Content-Type": media}, timeout=300).json()
            for each in (reference, ours)
        )

        assert wanted.keys() >= found.keys() == {"error_code", "message"}
        assert {wanted["error_code"], found["error_code"]} <= {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}
    for media in ("text/plain", "text/csv; charset=latin-1", "text/csv; header=present"):
        sent = {"Content-Type": media}
        assert [
            requests.post(f"{each}/invocations", data=b"a", headers=sent, timeout=300).status_code
            for each in (reference, ours)
        ] == [415, 415]


def test_mlflow_client_works(both: tuple[str, str, str]) -> None:
    from mlflow.pyfunc.scoring_server import client as mlflows

    kind, reference, ours = both
    frame = KINDS[kind].frame.head(5)
    made: Any = mlflows.ScoringServerClient
    clients = [made("127.0.0.1", int(each.rpartition(":")[2])) for each in (reference, ours)]
    # A dict of arrays is documented but fails in MLflow's client itself.
    asked = [frame, records(frame), json.dumps({"inputs": frame.to_dict(orient="list")})]
    for client in clients:
        client.wait_server_ready(timeout=300)

    for data in asked:
        wanted, found = (client.invoke(data, params={"unknown": 1}).get_predictions() for client in clients)
        pd.testing.assert_frame_equal(found, wanted)
    assert clients[0].get_version() == clients[1].get_version() == version("mlflow")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", "BAD_REQUEST", "not valid JSON"),
        (b"{}", "INVALID_PARAMETER_VALUE", "exactly one of dataframe_split, dataframe_records, instances, inputs"),
        (b'{"inputs": []}', "INVALID_PARAMETER_VALUE", "at least one row"),
        (b'{"inputs": 1}', "INVALID_PARAMETER_VALUE", "inputs must be a list of records or an object of columns"),
        (b'{"dataframe_split": {"data": [[1, 2, 3]]}}', "INVALID_PARAMETER_VALUE", "dataframe_split must be"),
        (b'{"dataframe_split": {"columns": ["count"], "data": 1}}', "INVALID_PARAMETER_VALUE", "in the list data"),
        (b'{"dataframe_split": {"columns": [[]], "data": [[1]]}}', "INVALID_PARAMETER_VALUE", "must be a string"),
        (b'{"dataframe_records": {}}', "INVALID_PARAMETER_VALUE", "dataframe_records must be a list of records"),
        (b'{"dataframe_records": [1]}', "INVALID_PARAMETER_VALUE", "row 0: must be an object with a value per column"),
        (b'{"inputs": {"count": [1], "texture": 2}}', "INVALID_PARAMETER_VALUE", "column 'texture': must be a list"),
        (b'{"inputs": {"count": [1], "texture": []}}', "INVALID_PARAMETER_VALUE", "different lengths: [0, 1]"),
        (b'{"inputs": {"count": [1]}}', "INVALID_PARAMETER_VALUE", "column 'texture': is missing"),
        (b'{"inputs": [[1, 2]]}', "INVALID_PARAMETER_VALUE", "row 0: has 2 values for 3 columns"),
        (b'{"inputs": [{"count": 1}, {"texture": 1}]}', "INVALID_PARAMETER_VALUE", "row 0, column 'texture'"),
    ],
)
def test_bad_json_returns_400_with_the_reason(client: TestClient, body: bytes, code: str, words: str) -> None:
    answer = client.post("/invocations", content=body)

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json().keys() == {"error_code", "message"}
    assert answer.json()["error_code"] == code
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"texture": "0.5"}, "row 1, column 'texture': must be a number, not a string"),
        ({"texture": True}, "row 1, column 'texture': must be a number, not a boolean"),
        ({"count": 1.5}, "row 1, column 'count': must be a whole number"),
        ({"count": None}, "row 1, column 'count': must not be null"),
    ],
)
def test_invalid_cell_is_named(client: TestClient, change: dict[str, Any], problem: str) -> None:
    answer = client.post("/invocations", json={"dataframe_records": [ROW, ROW | change]})

    assert answer.status_code == 400
    assert problem in answer.json()["message"]


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (b"mean radius,texture,count\n0.5,NA,3\n", 200, "predictions"),
        (b"\xef\xbb\xbfmean radius,texture,count\r\n0.5,0.25,3.0\r\n\r\n", 200, "predictions"),
        (b"mean radius,texture,count\n0.5,1_0,3\n", 400, "row 0, column 'texture': must be a number"),
        (b"mean radius,texture,count\n0.5,1,\n", 400, "row 0, column 'count': must not be null"),
        (b"mean radius,texture,count\n0.5,inf,1\n", 400, "row 0, column 'texture': must be finite"),
        (b"mean radius,texture,count\n0.5,1\n", 400, "row 0: has 2 values for 3 columns"),
        (b"mean radius,texture\n0.5,1\n", 400, "column 'count': is missing"),
        (b"texture,texture,count,mean radius\n1,1,1,1\n", 400, "column 'texture': appears twice"),
        (b'mean radius,texture,count\n"0.5,1,1\n', 400, "not valid CSV"),
        (b"\xff", 400, "not valid CSV in UTF-8"),
        (b"", 400, "at least one row"),
        (b"mean radius,texture,count\n" + b"1,1,1\n" * 201, 413, "more than 200 rows"),
    ],
)
def test_csv_is_parsed_or_rejected_with_the_reason(client: TestClient, lines: bytes, status: int, words: str) -> None:
    answer = client.post("/invocations", content=lines, headers={"Content-Type": "text/csv"})

    assert answer.status_code == status, answer.text
    assert words in answer.text


def test_limits_of_predict_apply_in_mlflows_format(client: TestClient) -> None:
    many = client.post("/invocations", json={"inputs": [ROW] * 201})
    large = client.post("/invocations", content=b" " * 20_001)
    typed = client.post("/invocations", content=b"{}", headers={"Content-Type": "text/plain"})
    wrong = client.get("/invocations")

    assert [each.status_code for each in (many, large, typed, wrong)] == [413, 413, 415, 405]
    assert typed.headers["accept"] == "application/json, text/csv"
    assert {each.json()["error_code"] for each in (many, large, typed, wrong)} == {"BAD_REQUEST"}


def test_thread_and_event_loop_predict_the_same(client: TestClient) -> None:
    alone = client.post("/invocations", json={"inputs": [ROW]}).json()["predictions"]
    score = client.post("/predict", json={"instances": [ROW]}).json()["predictions"][0]["probabilities"]["benign"]

    assert client.post("/invocations", json={"inputs": [ROW] * 150}).json()["predictions"] == alone * 150
    assert alone == [score]


def test_not_ready_returns_503_with_retry_after(tmp_path: Path) -> None:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as client:
        answers = [client.get("/ping"), client.post("/invocations", json={"inputs": [ROW]})]

    assert [each.status_code for each in answers] == [503, 503]
    assert [each.headers["retry-after"] for each in answers] == ["5", "5"]
    assert {each.json()["error_code"] for each in answers} == {"TEMPORARILY_UNAVAILABLE"}


def test_disabled_protocol_returns_404(saved: Path, tmp_path: Path) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path, mlflow_protocol=False)) as client:
        found = [client.post("/invocations", json={"inputs": [ROW]}), client.get("/ping"), client.get("/version")]
        described = client.get("/openapi.json").json()["paths"]

    assert {(each.status_code, each.headers["content-type"]) for each in found} == {(404, "application/problem+json")}
    assert not {"/invocations", "/ping", "/version"} & described.keys()
