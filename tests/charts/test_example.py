"""Tests that the example model in the ci values files loads and predicts its own input example."""

import base64
import json
from pathlib import Path

import numpy
import pytest
import xgboost
import yaml

from app.model.contract import CONTRACT_FILE, MODEL_FILE, Contract
from tests.charts.harness import environment, kinds, only
from tools.charts import MODEL_SERVICE, render
from tools.generate.charts import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_example_model_predicts_its_input_example(case: Path) -> None:
    files = next(item for item in render(MODEL_SERVICE, files=[case]) if "binaryData" in item)
    example = json.loads(files["data"]["input_example.json"])
    contract = Contract.model_validate_json(files["data"][CONTRACT_FILE])
    booster = xgboost.Booster()
    booster.load_model(bytearray(base64.b64decode(files["binaryData"][MODEL_FILE])))

    rows = xgboost.DMatrix(numpy.array(example["data"], dtype="float32"), feature_names=example["columns"])
    probabilities = booster.predict(rows)

    assert len(probabilities) == len(example["data"])
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert contract.task == "binary"
    assert yaml.safe_load(files["data"]["MLmodel"])["flavors"]["xgboost"]["data"] == MODEL_FILE


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case_needs_nothing_outside_the_cluster(case: Path) -> None:
    objects = render(MODEL_SERVICE, files=[case])

    assert environment(objects)["MODEL_SERVICE_MODEL_URI"].startswith("file:///")
    custom = {"ServiceMonitor", "PrometheusRule"} & set(kinds(objects))
    assert not custom or case.stem == "monitoring-values", "a stock cluster does not have these CRDs"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case_fits_a_node_with_two_cores(case: Path) -> None:
    deployment = only(render(MODEL_SERVICE, files=[case]), "Deployment")["spec"]

    assert deployment["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"
    assert deployment.get("replicas", 1) <= 2
