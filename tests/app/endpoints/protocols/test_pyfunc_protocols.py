"""Pyfunc models in both protocols, compared with MLflow's own scoring application."""

import base64
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.app.model.test_pyfunc import ECHO, GOOD, SUM, TYPED, save_code, settings
from tests.app.workers import serving_model

INFER = "/v2/models/m/infer"
SHAPES = """
import mlflow.pyfunc

class Total(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.reshape(len(model_input), -1).sum(axis=1) * (params or {}).get("scale", 1.0)

mlflow.models.set_model(Total())
"""
ROW: dict[str, Any] = dict(zip(map(str, TYPED), GOOD, strict=True))
Both = tuple[TestClient, TestClient]  # the reference and the service


def both(folder: Path, place: Path) -> Iterator[Both]:
    """Yield the application of `mlflow models serve` and the service, with the same model."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.pyfunc
        from mlflow.pyfunc import scoring_server

        reference = TestClient(
            scoring_server.init(mlflow.pyfunc.load_model(str(folder))), raise_server_exceptions=False
        )
        with serving_model(settings(folder, place, model_name="m")) as ours:
            yield reference, ours


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Model that returns its input: a column of each type, and parameters."""
    from mlflow.models import infer_signature

    place = tmp_path_factory.mktemp("typed")
    with warnings.catch_warnings(action="ignore"):
        signature = infer_signature(TYPED, ["x"], params={"scale": 0.5, "sizes": [1, 2], "mode": "plain"})
        folder = save_code(place / "model", ECHO, signature=signature, input_example=TYPED.head(1))
        (folder / "input_example.json").write_text(json.dumps({"columns": list(TYPED), "data": [GOOD]}))
    yield from both(folder, place)


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Model with one unnamed three-dimensional tensor and a parameter."""
    from mlflow.models import infer_signature

    place, example = tmp_path_factory.mktemp("matrices"), np.ones((2, 2, 3))
    with warnings.catch_warnings(action="ignore"):
        signature = infer_signature(example, np.ones(2), params={"scale": 1.0})
        folder = save_code(place / "model", SHAPES, signature=signature, input_example=example)
    yield from both(folder, place)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Model with two named tensors."""
    from mlflow.models import infer_signature

    place, example = tmp_path_factory.mktemp("named"), {"image": np.ones((2, 2, 3)), "scale": np.array([1, 2])}
    with warnings.catch_warnings(action="ignore"):
        folder = save_code(place / "model", SUM, signature=infer_signature(example, np.array([6.0, 12.0])))
    (folder / "input_example.json").write_text(json.dumps({name: v.tolist() for name, v in example.items()}))
    yield from both(folder, place)


def same(clients: Both, body: Any) -> Any:
    """Return the responses of both to the same request."""
    wanted, found = (each.post("/invocations", json=body) for each in clients)
    assert (wanted.status_code, found.status_code) == (200, 200), (wanted.text, found.text)
    assert found.json() == wanted.json()
    return found.json()["predictions"]


@pytest.mark.parametrize("params", [None, {"scale": 2.5, "sizes": [3], "mode": "x"}, {"unknown": 1, "scale": 3.5}])
def test_each_type_and_parameter_reaches_the_model_as_mlflow_sends_it(typed: Both, params: Any) -> None:
    row = ROW | {"datetime": "2026-01-31T12:00:00"}
    more = {} if params is None else {"params": params}

    split = same(typed, {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}} | more)
    records = same(typed, {"dataframe_records": [row]} | more)

    assert split == records
    assert "2026-01-31 12:00:00" in split[0]
    assert "\\\\x00\\\\xff" in split[0]


@pytest.mark.parametrize(("name", "value"), [("scale", "x"), ("sizes", 3), ("sizes", ["x"]), ("mode", 1)])
def test_invalid_parameter_is_rejected_by_both(typed: Both, name: str, value: Any) -> None:
    row = ROW
    answers = [each.post("/invocations", json={"inputs": [row], "params": {name: value}}) for each in typed]
    infer = typed[1].post(INFER, json={"inputs": tensors_of(row), "parameters": {name: value}})

    assert [each.status_code for each in (*answers, infer)] == [400, 400, 400]
    assert f"params.{name}" in answers[1].json()["message"]
    assert f"params.{name}" in infer.json()["error"]


@pytest.mark.parametrize("column", ["datetime", "binary", "boolean", "integer"])
def test_cell_of_wrong_type_is_rejected_and_named(typed: Both, column: str) -> None:
    row = ROW | {column: "?!"}

    answer = typed[1].post("/invocations", json={"dataframe_records": [row]})

    assert answer.status_code == 400
    assert f"row 0, column '{column}'" in answer.json()["message"]
    assert "?!" not in answer.text


def tensors_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    types = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
    return [{"name": k, "datatype": types.get(k, "BYTES"), "shape": [1], "data": [v]} for k, v in row.items()]


def test_tensors_of_each_type_predict_as_predict(typed: Both) -> None:
    ours, row = typed[1], ROW
    params = {"scale": 2.5, "mode": "x"}
    wanted = ours.post("/predict", json={"instances": [row], "params": params}).json()["predictions"][0]["label"]
    metadata = ours.get("/v2/models/m").json()

    answer = ours.post(INFER, json={"inputs": tensors_of(row), "parameters": params | {"unknown": 1}})

    assert answer.json()["outputs"][0]["data"] == [wanted], answer.text
    assert [(each["name"], each["datatype"]) for each in metadata["inputs"]] == [
        (each["name"], each["datatype"]) for each in tensors_of(row)
    ]


def test_binary_data_holds_bytes_in_base64(typed: Both) -> None:
    ours, row = typed[1], ROW
    wanted = ours.post("/predict", json={"instances": [row]}).json()["predictions"][0]["label"]
    text = base64.b64encode(b"\x00\xff")
    inputs = tensors_of(row)
    raw = len(text).to_bytes(4, "little") + text
    del inputs[-1]["data"]
    inputs[-1]["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}

    answer = ours.post(INFER, content=head + raw, headers=headers)
    other = ours.post(INFER, content=head + raw[:-1] + b"?", headers=headers)

    assert answer.json()["outputs"][0]["data"] == [wanted], answer.text
    assert (other.status_code, "column 'binary': must be bytes in base64" in other.text) == (400, True)


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_three_dimensional_tensor_predicts_as_the_reference(matrices: Both, form: str) -> None:
    rows = np.arange(18.0).reshape(3, 2, 3)

    assert same(matrices, {form: rows.tolist()}) == rows.sum(axis=(1, 2)).tolist()
    assert same(matrices, {form: rows.tolist(), "params": {"scale": 0.5}}) == (rows.sum(axis=(1, 2)) / 2).tolist()


def test_named_tensors_predict_as_the_reference(named: Both) -> None:
    rows, scale = np.arange(18.0).reshape(3, 2, 3), np.array([1, 2, 3])
    wanted = (rows.sum(axis=(1, 2)) * scale).tolist()

    assert same(named, {"inputs": {"image": rows.tolist(), "scale": scale.tolist()}}) == wanted
    records = [{"image": image.tolist(), "scale": int(each)} for image, each in zip(rows, scale, strict=True)]
    assert same(named, {"instances": records}) == wanted


def test_tensor_of_wrong_shape_is_rejected_by_both(matrices: Both, named: Both) -> None:
    for clients, inputs, column in (
        (matrices, [[[1, 2], [3, 4]]], "inputs"),
        (matrices, [1, 2], "inputs"),
        (named, {"image": [[[1, 2], [3, 4]]], "scale": [1]}, "image"),
    ):
        answers = [each.post("/invocations", json={"inputs": inputs}) for each in clients]

        assert [each.status_code for each in answers] == [400, 400], [each.text for each in answers]
        assert f"column '{column}'" in answers[1].json()["message"]


def test_more_than_two_dimensions_return_400_in_open_inference(matrices: Both) -> None:
    tensor = {"name": "inputs", "datatype": "FP64", "shape": [1, 2, 3], "data": [1, 2, 3, 4, 5, 6]}

    deep = matrices[1].post(INFER, json={"inputs": [tensor]})
    flat = matrices[1].post(INFER, json={"inputs": [tensor | {"shape": [6]}]})

    assert (deep.status_code, "Input 'inputs' must have the shape" in deep.text) == (400, True)
    assert (flat.status_code, "row 0, column 'inputs': must be a list with the shape [2, 3]" in flat.text) == (
        400,
        True,
    )


def test_missing_values_reach_the_model_as_mlflow_sends_them(typed: Both) -> None:
    row = ROW | {"datetime": "2026-01-31T12:00:00"}

    assert "nan" in same(typed, {"dataframe_records": [row | {"double": None}]})[0]
    assert typed[1].post("/invocations", json={"inputs": [row | {"long": None}]}).status_code == 400
