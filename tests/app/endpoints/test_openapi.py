"""The OpenAPI document, compared with the behaviour of the service."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.harness import CLASSES, COLUMNS, serving, settings_for, write_contract

ODD_NAMES = ["a/b~c", "größe", "$ref", "x y", "columns"]
ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}


def odd_model(folder: Path) -> None:
    """Save a regression with unusual names, all types and optional columns."""
    names = ODD_NAMES
    drawn = np.random.default_rng(0).integers(0, 2, (40, len(names))).astype(np.float32)
    booster = xgb.train({"max_depth": 2, "nthread": 1}, xgb.DMatrix(drawn, label=drawn[:, 0]), 2)
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        types = ["double", "long", "integer", "boolean", "float"]
        columns = [ColSpec(kind, name, required=name != "x y") for kind, name in zip(types, names, strict=True)]
        signature = ModelSignature(inputs=Schema([*columns]))
        extra: dict[str, Any] = {"signature": signature, "pip_requirements": ["xgboost-cpu"]}
        mlflow.xgboost.save_model(booster, str(folder), model_format="ubj", **extra)
    write_contract(folder, task="regression", classes=[])


@pytest.fixture(scope="module", params=["binary", "without a contract", "odd"])
def described(request: pytest.FixtureRequest, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a client, the schema of its model's requests and the schema of its responses."""
    place = tmp_path_factory.mktemp("described")
    folder = place / "model"
    if request.param == "odd":
        odd_model(folder)
    else:
        shutil.copytree(saved, folder)
        if request.param != "binary":
            (folder / "contract.json").unlink()
    with serving(settings_for(folder.as_uri(), place)) as client:
        document = client.get("/openapi.json").json()
        validate(document)
        operation = document["paths"]["/predict"]["post"]
        asked = operation["requestBody"]["content"]["application/json"]
        answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
        schemas = {"components": document["components"]}
        yield (
            client,
            asked,
            Draft202012Validator(asked["schema"] | schemas),
            Draft202012Validator(answered | schemas),
        )


def test_logged_example_is_described_and_served_in_both_forms(client: TestClient) -> None:
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    examples = {name: it["value"] for name, it in content["application/json"]["examples"].items()}
    answers = [client.post("/predict", json=example).json() for example in examples.values()]

    assert set(examples) == {"records", "split"}
    assert examples["split"] == client.get("/model").json()["input_example"]
    assert answers[0] == answers[1]
    for example in examples.values():
        Draft202012Validator(content["application/json"]["schema"]).validate(example)


def test_responses_match_the_description(described: Any) -> None:
    client, asked, request, answer = described
    record = {
        name: {"number": 0.5, "integer": 3, "boolean": True}[np.atleast_1d(cell["type"])[0]]
        for name, cell in asked["schema"]["oneOf"][0]["properties"]["instances"]["items"]["properties"].items()
    }
    for body in ({"instances": [record]}, {"columns": list(record), "data": [list(record.values())]}):
        request.validate(body)
        answer.validate(client.post("/predict", json=body).json())


@pytest.mark.parametrize(
    "change",
    [
        {"texture": None},
        {"texture": "1"},
        {"texture": True},
        {"texture": 1e39},
        {"texture": -1e38},
        {"count": None},
        {"count": 1.5},
        {"count": 3.0},
        {"count": 2**63},
        {"count": -(2**63)},
        {"colour": 1},
    ],
)
def test_description_accepts_the_records_that_the_service_accepts(client: TestClient, change: dict[str, Any]) -> None:
    schema = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    body = {"instances": [ROW | change]}

    taken = client.post("/predict", json=body).status_code == 200

    assert Draft202012Validator(schema["application/json"]["schema"]).is_valid(body) == taken


def test_optional_column_may_be_left_out_or_null(tmp_path: Path) -> None:
    odd_model(tmp_path / "model")
    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path)) as client:
        schema = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
        request = Draft202012Validator(schema["application/json"]["schema"])
        full = dict(zip(ODD_NAMES, [0.5, 1, 1, True, 0.5], strict=True))
        for body in ({"instances": [full | {"x y": None}]}, {"instances": [{k: full[k] for k in full if k != "x y"}]}):
            assert request.is_valid(body) == (client.post("/predict", json=body).status_code == 200)


def test_classes_are_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    item = document["components"]["schemas"]["Predictions"]["properties"]["predictions"]["items"]

    assert item["properties"]["label"]["enum"] == CLASSES
    assert item["properties"]["probabilities"]["required"] == CLASSES


def test_problems_match_the_description(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schema = {"$ref": "#/components/schemas/ProblemDetails", "components": document["components"]}
    answers = [client.post("/predict", json={"instances": [{}]}), client.post("/predict", content=b"{")]

    for answer in answers:
        Draft202012Validator(schema).validate(answer.json())
        assert str(answer.status_code) in document["paths"]["/predict"]["post"]["responses"]


def test_description_allows_any_column_before_the_model_is_loaded(tmp_path: Path) -> None:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as client:
        document = client.get("/openapi.json").json()

    validate(document)
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert "examples" not in body
    assert Draft202012Validator(body["schema"]).is_valid({"columns": COLUMNS, "data": [[1, 2, 3]]})


def test_every_operation_has_one_described_tag_and_a_summary(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one").write_text("feedback-key-0123456789")
    settings = settings_for(saved.as_uri(), tmp_path, feedback_keys_dir=tmp_path / "keys")
    with serving(settings) as client:
        document = client.get("/openapi.json").json()

    found = [each for methods in document["paths"].values() for each in methods.values()]
    names = [tag["name"] for tag in document["tags"]]
    assert names == ["Predict", "Explain", "Feedback", "Model", "Health", "MLflow protocol", "Open Inference Protocol"]
    assert all(tag["description"].endswith(".") for tag in document["tags"])
    assert {name for each in found for name in each["tags"]} == set(names)
    assert all(len(each["tags"]) == 1 and each["summary"] for each in found)


def test_tags_without_operations_are_omitted(saved: Path, tmp_path: Path) -> None:
    settings = settings_for(saved.as_uri(), tmp_path, mlflow_protocol=False, open_inference_protocol=False)
    with serving(settings) as client:
        document = client.get("/openapi.json").json()

    assert [tag["name"] for tag in document["tags"]] == ["Predict", "Explain", "Model", "Health"]


def test_description_names_the_model_and_links_to_its_page(client: TestClient) -> None:
    model = client.get("/model").json()
    text = client.get("/openapi.json").json()["info"]["description"]

    assert f"**{model['name']}**, version **{model['version']}**" in text
    assert "[Model page](./)" in text
    assert "[Documentation](https://" in text


def test_description_without_pages_has_no_link_to_them(saved: Path, tmp_path: Path) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path, pages_enabled=False)) as client:
        assert "Model page" not in client.get("/openapi.json").json()["info"]["description"]


def test_names_in_the_description_are_text(saved: Path, tmp_path: Path) -> None:
    name = "<img src=x> **a_b** [c](d)\n# e"
    with serving(settings_for(saved.as_uri(), tmp_path, model_name=name)) as client:
        text = client.get("/openapi.json").json()["info"]["description"]
        assert r"\<img src=x\> \*\*a\_b\*\* \[c\](d) \# e" in text
