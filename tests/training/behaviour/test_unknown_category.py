"""A category that is not in the training data: one rule for the service, scoring, `describe` and the gate."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from app.model.contract import CONTRACT_FILE, Contract, ContractColumn
from app.model.interface import differences
from tests.app.harness import serving, settings_for
from tests.training.behaviour.test_served import served
from training.__main__ import main
from training.tracking.registered import Registered

PLANS, AREAS = ["basic", "plus", "pro"], [10, 20, 30]
COLUMNS = ["plan", "area", "age"]
# The second and third rows contain unknown categories, and the fourth the missing values for which they stand.
ROWS: list[list[Any]] = [["plus", 20, 40], ["gold", 20, 40], ["gold", 99, 40], [None, None, 40], ["pro", 10, None]]
UNSEEN = {"plan": 2, "area": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes unknown categories as missing, and rows with such categories as CSV and Parquet."""
    folder = tmp_path_factory.mktemp("unknown")
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"plan": draw.choice([*PLANS, None], 600), "area": draw.choice(AREAS, 600)})
    table = table.assign(age=draw.integers(18, 80, 600).astype(float))
    score = table["plan"].map({"basic": 0.1, "plus": 0.5, "pro": 0.9}).fillna(0.3) + table["area"] / 100
    table["left"] = np.where(draw.random(600) < score, "yes", "no")
    table["area"] = table["area"].where(draw.random(600) > 0.1).astype("Int64")
    table.to_csv(folder / "table.csv", index=False)
    rows = pd.DataFrame(ROWS, columns=COLUMNS).astype({"area": "Int64"})
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet")
    options = ("--target=left", "--categorical=area", "--unknown-category=missing", "--rounds=30")
    served(folder, folder / "table.csv", *options)
    return folder


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Any:
    """Predictions of XGBoost's own package for the rows without their unknown categories."""
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    categories: dict[str, Any] = {"plan": PLANS, "area": AREAS}
    for name, known in categories.items():
        frame[name] = pd.Categorical(frame[name].where(frame[name].isin(known)), categories=known)
    booster = xgb.Booster(model_file=folder / "work/model.ubj")
    found = booster.predict(xgb.DMatrix(frame, enable_categorical=True))
    assert len({*found[[0, 1, 2, 4]].tolist()}) == 4
    assert found[2] == found[3]
    return found


def service(folder: Path, tmp_path: Path, **changes: Any) -> Any:
    return serving(settings_for((folder / "model").as_uri(), tmp_path, **changes))


def unseen(client: TestClient) -> dict[str, float]:
    """Return the number of unseen categories in /metrics by column."""
    labels = {"model_version": client.get("/model").json()["version"], "role": "feature", "bin": "__unseen__"}
    name = "model_distribution_values_total"
    found = {column: REGISTRY.get_sample_value(name, _labels(client, labels, column)) for column in ("plan", "area")}
    return {column: value or 0.0 for column, value in found.items()}


def _labels(client: TestClient, labels: dict[str, str], column: str) -> dict[str, str]:
    return labels | {"model_name": client.get("/model").json()["name"], "variable": column}


def _csv(client: TestClient) -> list[Any]:
    text = pd.DataFrame(ROWS, columns=COLUMNS).astype({"area": "Int64"}).to_csv(index=False)
    answer = client.post("/invocations", content=text, headers={"Content-Type": "text/csv"})
    return [float(each) for each in answer.json()["predictions"]]


def _tensors(client: TestClient) -> list[Any]:
    rows = [row for row in ROWS if None not in row]
    columns = zip(COLUMNS, ("BYTES", "INT64", "FP64"), zip(*rows, strict=True), strict=True)
    inputs = [{"name": n, "datatype": t, "shape": [len(rows)], "data": list(cells)} for n, t, cells in columns]
    name = client.get("/model").json()["name"]
    answer = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs}).json()
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    return [float(each) for each in outputs["probabilities"][1::2]]


def _positive(answer: Any) -> list[float]:
    return [each["probabilities"]["yes"] for each in answer.json()["predictions"]]


REQUESTS: dict[str, Callable[[TestClient], list[float]]] = {
    "split": lambda client: _positive(client.post("/predict", json={"columns": COLUMNS, "data": ROWS})),
    "records": lambda client: _positive(
        client.post("/predict", json={"instances": [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]})
    ),
    "explain": lambda client: [
        each["prediction"]["probabilities"]["yes"]
        for each in client.post("/explain", json={"columns": COLUMNS, "data": ROWS}).json()["explanations"]
    ],
    "csv": _csv,
    "tensors": _tensors,
}


@pytest.mark.parametrize("form", REQUESTS)
def test_service_predicts_an_unknown_category_as_missing_and_counts_it(
    folder: Path, tmp_path: Path, wanted: Any, form: str
) -> None:
    with service(folder, tmp_path) as client:
        before = unseen(client)
        found = REQUESTS[form](client)
        counted = {name: count - before[name] for name, count in unseen(client).items()}

    expected = wanted[:3] if form == "tensors" else wanted
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), expected)
    assert counted == ({"plan": 0, "area": 0} if form == "explain" else UNSEEN), "explanations are not counted"


def test_setting_overrides_the_contract(folder: Path, tmp_path: Path) -> None:
    with service(folder, tmp_path, model_unknown_category="error") as client:
        before = unseen(client)
        answer = client.post("/predict", json={"columns": COLUMNS, "data": ROWS})
        counted = {name: count - before[name] for name, count in unseen(client).items()}

    assert answer.status_code == 422
    problem = "must be one of the model's categories"
    places = [(each["row"], each["column"]) for each in answer.json()["errors"] if problem in each["problem"]]
    assert places == [(1, "plan"), (2, "plan"), (2, "area")]
    assert counted == UNSEEN


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [("plan", 3, "must be a string, not a number"), ("area", "x", "must be a whole number"),
     ("area", 1.5, "must be a whole number"), ("area", True, "must be a whole number"), ("plan", ["a"], "must be a")],
)  # fmt: skip
def test_value_of_a_different_type_is_refused(
    folder: Path, tmp_path: Path, column: str, value: Any, problem: str
) -> None:
    row = dict(zip(COLUMNS, ROWS[0], strict=True)) | {column: value}
    with service(folder, tmp_path) as client:
        answer = client.post("/predict", json={"instances": [row]})

    assert answer.status_code == 422
    (found,) = answer.json()["errors"]
    assert (found["column"], found["problem"].startswith(problem)) == (column, True)


def test_rule_is_visible_in_the_documents(folder: Path, tmp_path: Path) -> None:
    with service(folder, tmp_path) as client:
        columns = {each["name"]: each for each in client.get("/model").json()["signature"]}
        text = json.dumps(client.get("/openapi.json").json())

    assert [columns[name].get("unknown_category") for name in COLUMNS] == ["missing", "missing", None]
    assert "A different category is a missing value." in text


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_scoring_predicts_an_unknown_category_as_missing(
    folder: Path, tmp_path: Path, wanted: Any, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = [f"--model-uri=file://{folder}/model", f"--data={folder}/rows.{source}", f"--output={tmp_path}/out"]

    with caplog.at_level(logging.WARNING):
        assert main(["score", *arguments]) == 0
    refused = main(["score", *arguments[:2], f"--output={tmp_path}/no", "--unknown-category=error"])

    found = pq.read_table(next((tmp_path / "out").glob("part-*"))).column("probability_yes")
    np.testing.assert_array_equal(found.to_numpy(), wanted)
    for column, count in UNSEEN.items():
        assert f"column {column}: {count} unknown categories were scored as missing values" in caplog.text
    assert refused == 2


def test_description_counts_an_unknown_category_as_missing(folder: Path, tmp_path: Path) -> None:
    arguments = [f"--model-uri=file://{folder}/model", f"--data={folder}/rows.csv"]
    assert main(["describe", *arguments, f"--output={tmp_path}/contract.json"]) == 0

    contract = Contract.model_validate_json((tmp_path / "contract.json").read_bytes())

    assert contract.unknown_category == "missing"
    assert contract.profile
    assert [each.missing for each in contract.profile.features] == pytest.approx([0.6, 0.4, 0.2])


def test_gate_predicts_an_unknown_category_as_missing(folder: Path, wanted: Any) -> None:
    content = (folder / "work/model.ubj").read_bytes()
    contract = Contract.model_validate_json((folder / "model" / CONTRACT_FILE).read_bytes())
    digests = {"model.ubj": hashlib.sha256(content).hexdigest()}
    booster = xgb.Booster(model_file=bytearray(content))
    model = Registered("m", "1", "", digests, "model.ubj", contract, booster)

    np.testing.assert_array_equal(model.predict(pd.DataFrame(ROWS, columns=COLUMNS)).astype(np.float32), wanted)


@pytest.mark.parametrize(("before", "after", "breaks"), [("missing", "error", True), ("error", "missing", False)])
def test_candidate_must_accept_what_the_champion_accepts(before: str, after: str, breaks: bool) -> None:
    columns = (ContractColumn(name="plan", type="string", categories=("a", "b")),)
    old, new = (
        Contract.model_validate({"task": "regression", "target": "y", "columns": columns, "unknown_category": rule})
        for rule in (before, after)
    )

    assert bool(list(differences(old, new))) == breaks


def test_older_contract_refuses_unknown_categories() -> None:
    assert Contract(task="regression", target="y").unknown_category == "error"
