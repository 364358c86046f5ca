"""Pyfunc models: their inputs and outputs, and the errors of models that do not load."""

import json
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from starlette.testclient import TestClient

from app.errors import LoadError
from app.model import pyfunc
from app.model.digest import digest_of
from app.model.files import ModelFiles, Provenance
from app.model.pyfunc import PyfuncModel
from app.model.worker import WorkerOptions
from app.registry.load import load_model
from app.settings import Settings
from tests.app.harness import write_contract
from tests.app.workers import PATIENCE_SECONDS, pyfunc_settings, serving_model, staged, worker

# Returns its input, so that tests see the values and types that the model gets.
ECHO = """
import mlflow.pyfunc

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        types = [str(dtype) for dtype in model_input.dtypes]
        return [f"{[str(cell) for cell in row]} {types} {params}" for row in model_input.values]

mlflow.models.set_model(Echo())
"""
SUM = """
import mlflow.pyfunc

class Sum(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        image, scale = model_input["image"], model_input["scale"]
        return image.sum(axis=(1, 2)) * scale

mlflow.models.set_model(Sum())
"""
TYPED = pd.DataFrame(
    {
        "double": [1.5],
        "float": np.array([2.5], dtype=np.float32),
        "long": [2**53 + 1],
        "integer": np.array([7], dtype=np.int32),
        "boolean": [True],
        "string": ["red"],
        "datetime": pd.to_datetime(["2026-01-31T12:00:00"]),
        "binary": [b"\x00\xff"],
    }
)
GOOD = [1.5, 2.5, 2**53 + 1, 7, True, "red", "2026-01-31T13:00:00+01:00", "AP8="]
REQUIREMENTS = ["mlflow==3.17.2"]


def save_code(folder: Path, source: str, **extra: Any) -> Path:
    """Save a model that consists of a file of Python code."""
    code = folder.parent / f"{folder.name}.py"
    code.write_text(source)
    with warnings.catch_warnings(action="ignore"):
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(str(folder), python_model=str(code), pip_requirements=REQUIREMENTS, **extra)
    return folder


@contextmanager
def loaded(folder: Path, place: Path, compatibility: Any = "warn") -> Iterator[PyfuncModel]:
    """Yield a model that a worker in this environment has loaded."""
    chosen = settings(folder, place, model_compatibility=compatibility)
    staged(chosen)
    with worker(chosen):
        model = load_model(chosen, time.monotonic() + PATIENCE_SECONDS).model
        assert isinstance(model, PyfuncModel)
        try:
            yield model
        finally:
            model.worker.close()


def settings(folder: Path, place: Path, **changes: Any) -> Settings:
    return pyfunc_settings(folder.as_uri(), place, **changes)


@pytest.fixture(scope="module")
def flowers() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).random((40, 2)), columns=["petal", "sepal"])


@pytest.fixture(scope="module")
def pipeline(flowers: pd.DataFrame) -> Pipeline:
    labels = np.where(flowers.petal > 0.5, "large", "small")
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(flowers, labels)


@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory: pytest.TempPathFactory, flowers: pd.DataFrame, pipeline: Pipeline) -> Path:
    """Folder of a scikit-learn pipeline that predicts probabilities."""
    folder = tmp_path_factory.mktemp("sklearn") / "model"
    with warnings.catch_warnings(action="ignore"):
        import mlflow.sklearn
        from mlflow.models import infer_signature

        mlflow.sklearn.save_model(
            pipeline,
            str(folder),
            signature=infer_signature(flowers, pipeline.predict_proba(flowers)),
            input_example=flowers.head(2),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["mlflow==3.17.2", "scikit-learn"],
        )
    write_contract(folder, target="size", classes=["large", "small"])
    return folder


@pytest.fixture(scope="module")
def served(saved_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        warnings.catch_warnings(action="ignore"),
        serving_model(settings(saved_pipeline, tmp_path_factory.mktemp("served"))) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Yield a service whose model has a column of each type, and parameters."""
    with warnings.catch_warnings(action="ignore"):
        from mlflow.models import infer_signature

        signature = infer_signature(TYPED, ["x"], params={"scale": 0.5, "sizes": [1, 2], "mode": "plain"})
        folder = save_code(
            tmp_path_factory.mktemp("echo") / "model", ECHO, signature=signature, input_example=TYPED.head(1)
        )
        # MLflow's example does not encode bytes as base64, so it is replaced by a request.
        (folder / "input_example.json").write_text(json.dumps({"columns": list(TYPED), "data": [GOOD]}))
        with serving_model(settings(folder, tmp_path_factory.mktemp("served"))) as client:
            yield client


def ask(client: TestClient, row: list[Any], **more: Any) -> Any:
    return client.post("/predict", json={"columns": list(TYPED), "data": [row], **more})


def test_pipeline_predicts_as_scikit_learn(served: TestClient, flowers: pd.DataFrame, pipeline: Pipeline) -> None:
    answer = served.post("/predict", json={"columns": list(flowers), "data": flowers.to_numpy().tolist()})

    assert answer.status_code == 200, answer.text
    found = [list(each["probabilities"].values()) for each in answer.json()["predictions"]]
    assert np.array_equal(found, pipeline.predict_proba(flowers))
    assert [each["label"] for each in answer.json()["predictions"]] == pipeline.predict(flowers).tolist()


def test_reordered_records_get_the_same_predictions(served: TestClient) -> None:
    split = served.post("/predict", json={"columns": ["petal", "sepal"], "data": [[0.2, 0.9]]}).json()
    records = served.post("/predict", json={"instances": [{"sepal": 0.9, "petal": 0.2}]}).json()

    assert records == split


def test_model_endpoint_and_openapi_have_the_flavor(served: TestClient) -> None:
    known, api = served.get("/model").json(), served.get("/openapi.json").json()

    assert known["flavor"] == "pyfunc"
    assert known["classes"] == ["large", "small"]
    assert "/explain" not in api["paths"]


def test_explain_returns_501_with_the_reason(served: TestClient) -> None:
    answer = served.post("/explain", json={"columns": ["petal", "sepal"], "data": [[0.2, 0.9]]})

    assert answer.status_code == 501
    assert answer.json()["detail"] == "Models of the flavor pyfunc do not support explanations; only XGBoost models do."


def test_each_type_reaches_the_model(echo: TestClient) -> None:
    answer = ask(echo, GOOD, params={"scale": 2, "sizes": [3]})

    assert answer.status_code == 200, answer.text
    label = answer.json()["predictions"][0]["label"]
    values, types = label.split("] [")[0], label.split("] [")[1]
    assert "9007199254740993" in values
    assert "2026-01-31 12:00:00" in values
    assert "\\\\x00\\\\xff" in values
    assert "'float64', 'float32', 'int64', 'int32', 'bool'" in types
    assert "datetime64[ns]" in types
    assert "{'scale': 2.0, 'sizes': [3], 'mode': 'plain'}" in types.replace("array([3])", "[3]")


@pytest.mark.parametrize(
    ("column", "bad", "problem"),
    [
        ("double", "1", "must be a number, not a string"),
        ("float", 1e39, "must be finite as a 32-bit number"),
        ("long", 2**63, "must fit in 64 bits"),
        ("integer", 1.5, "must be a whole number"),
        ("boolean", 1, "must be true or false, not a number"),
        ("string", 1, "must be a string, not a number"),
        (
            "datetime",
            "31.1.2026",
            "must be an ISO 8601 date and time, such as 2026-01-31T12:00:00Z, from 1678 to 2261",
        ),
        (
            "datetime",
            "3000-01-01",
            "must be an ISO 8601 date and time, such as 2026-01-31T12:00:00Z, from 1678 to 2261",
        ),
        ("binary", "?", "must be bytes in base64"),
        ("long", None, "must not be null: the type long has no missing values"),
    ],
)
def test_invalid_cell_is_named(echo: TestClient, column: str, bad: Any, problem: str) -> None:
    answer = ask(echo, [bad if name == column else value for name, value in zip(TYPED, GOOD, strict=True)])

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"row": 0, "column": column, "problem": problem}]


@pytest.mark.parametrize(
    ("params", "column", "problem"),
    [
        ({"speed": 1}, "params.speed", "is not a parameter of this model, which has scale, sizes, mode"),
        ({"scale": "x"}, "params.scale", "must be a number, not a string"),
        ({"sizes": 3}, "params.sizes", "must be a list, not a number"),
        ({"sizes": [1, 2.5]}, "params.sizes", "must be a whole number"),
    ],
)
def test_invalid_parameter_is_named(echo: TestClient, params: Any, column: str, problem: str) -> None:
    answer = ask(echo, GOOD, params=params)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"row": None, "column": column, "problem": problem}]


def test_xgboost_model_accepts_no_parameters(client: TestClient) -> None:
    body = client.get("/model").json()["input_example"] | {"params": {"t": 1}}

    answer = client.post("/predict", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["problem"] == "is not a parameter of this model, which has none"


def test_types_and_parameters_are_described(echo: TestClient) -> None:
    forms = echo.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    records, *_ = forms["application/json"]["schema"]["oneOf"]
    cells = records["properties"]["instances"]["items"]["properties"]

    assert cells["datetime"] == {"type": "string", "format": "date-time"}
    assert cells["binary"] == {"type": "string", "contentEncoding": "base64"}
    assert cells["integer"] == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
    params = records["properties"]["params"]["properties"]
    assert params["sizes"]["type"] == "array"
    assert params["scale"]["default"] == 0.5


def test_named_tensors_reach_the_model(tmp_path: Path) -> None:
    example = {"image": np.ones((2, 2, 3)), "scale": np.array([1, 2])}
    with warnings.catch_warnings(action="ignore"):
        from mlflow.models import infer_signature

        signature = infer_signature(example, np.array([6.0, 12.0]))
        folder = save_code(tmp_path / "model", SUM, signature=signature)
        (folder / "input_example.json").write_text(json.dumps({name: v.tolist() for name, v in example.items()}))
        with serving_model(settings(folder, tmp_path)) as client:
            good = client.post("/predict", json={"instances": [{"image": [[1, 2, 3], [4, 5, 6]], "scale": 10}]})
            short = client.post("/predict", json={"instances": [{"image": [[1, 2], [4, 5]], "scale": 10}]})

    assert good.json()["predictions"] == [210]
    assert short.status_code == 422
    assert short.json()["errors"] == [
        {"row": 0, "column": "image", "problem": "must have the shape [2, 3]: a list has 2 values instead of 3"}
    ]


def test_matrix_becomes_one_column_per_feature(tmp_path: Path, flowers: pd.DataFrame) -> None:
    folder = tmp_path / "model"
    rows = flowers.to_numpy()
    with warnings.catch_warnings(action="ignore"):
        import mlflow.sklearn
        from mlflow.models import infer_signature

        plain = LogisticRegression().fit(rows, flowers.petal > 0.5)
        signature = infer_signature(rows, plain.predict(rows))
        mlflow.sklearn.save_model(
            plain, str(folder), signature=signature, input_example=rows[:2], pip_requirements=REQUIREMENTS
        )
    with loaded(folder, tmp_path) as model:
        names = model.signature.names
        found = model.predict(model.signature.from_split(["0", "1"], rows.tolist()))

    assert names == ("0", "1")
    assert [each["label"] for each in found] == [str(each).lower() for each in plain.predict(rows)]


def test_wrong_digest_is_rejected_before_code_runs(saved_pipeline: Path) -> None:
    digest = digest_of(ModelFiles(saved_pipeline).all_digests())
    with pytest.raises(LoadError, match=f"its files have the sha256 {digest}, but {'0' * 64} is pinned"):
        pyfunc.check(saved_pipeline, "0" * 64)


def test_digest_of_some_files_is_rejected(saved_pipeline: Path) -> None:
    """A pin that covers less than the model's code must not be accepted."""
    with pytest.raises(LoadError, match="is pinned"):
        pyfunc.check(saved_pipeline, digest_of(ModelFiles(saved_pipeline).digests()))


def test_digest_equals_that_of_sha256sum(saved_pipeline: Path) -> None:
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    found = subprocess.run(["bash", "-c", command], cwd=saved_pipeline, capture_output=True, text=True, check=True)

    assert found.stdout.split()[0] == digest_of(ModelFiles(saved_pipeline).all_digests())


@pytest.mark.parametrize("blocked", ["mlflow", "sklearn"])
def test_missing_package_is_named(saved_pipeline: Path, tmp_path: Path, blocked: str) -> None:
    """Run a worker in which the package cannot be imported, as in an environment without it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.partition('.')[0] == {blocked!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.partition('.')[0])\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    chosen = settings(saved_pipeline, tmp_path)
    staged(chosen)
    with worker(chosen, PYTHONPATH=str(tmp_path)) as supervisor, pytest.raises(LoadError) as refusal:
        load_model(chosen, time.monotonic() + PATIENCE_SECONDS)
    sentence = f"it requires the package {blocked}, which its environment does not have"

    assert str(refusal.value).startswith(f"{sentence}; see the log of the container model")
    assert not refusal.value.retryable
    assert supervisor.wait() == 1
    assert (chosen.worker_socket.parent / "message").read_text() == f"Cannot load the model: {sentence}.\n"


def _with_requirements(saved: Path, folder: Path, *lines: str, python: str = "") -> Path:
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "requirements.txt").write_text("\n".join(["# a comment", "--find-links x", *lines]))
    if python:
        (folder / "python_env.yaml").write_text(yaml.safe_dump({"python": python}))
    return folder


def test_different_versions_are_named(saved_pipeline: Path, tmp_path: Path) -> None:
    lines = ["numpy==1.0", "mlflow==3.17.2", "no-such-package==2", 'numpy==1.1; python_version < "3"']
    folder = _with_requirements(saved_pipeline, tmp_path / "model", *lines, python="3.9.1")

    with loaded(folder, tmp_path) as model:
        found = model.mismatches

    assert found is not None
    assert [(each.package, each.wanted) for each in found] == [
        ("python", "3.9.1"),
        ("numpy", "==1.0"),
        ("no-such-package", "==2"),
    ]
    assert found[2].present == "none"
    with loaded(folder, tmp_path / "off", "off") as model:
        assert model.mismatches is None


def test_different_versions_are_rejected_in_mode_fail(saved_pipeline: Path, tmp_path: Path) -> None:
    folder = _with_requirements(saved_pipeline, tmp_path / "model", "numpy==1.0")

    with (
        pytest.raises(LoadError, match=r"versions that differ from those installed: numpy ==1\.0 \(installed: "),
        loaded(folder, tmp_path, "fail"),
    ):
        pass


def test_model_without_signature_is_rejected(saved_pipeline: Path, tmp_path: Path) -> None:
    folder = _with_requirements(saved_pipeline, tmp_path / "model")
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel | {"signature": None}))

    with pytest.raises(LoadError, match="MLmodel has no signature, which defines the valid input"):
        pyfunc.load(folder, Provenance("m", "", ""), options=WorkerOptions(tmp_path), deadline=0)


def test_model_without_xgboost_flavor_requires_model_flavor_pyfunc(saved_pipeline: Path) -> None:
    from app.model import xgboost as xgboost_model

    with pytest.raises(LoadError, match=r"MLmodel has no flavor xgboost.*set model\.flavor=pyfunc"):
        xgboost_model.load(saved_pipeline, Provenance("m", "", saved_pipeline.as_uri()))


def test_registered_model_is_downloaded_with_all_files(mlflow_server: str, tmp_path: Path) -> None:
    """Serve a registered model that was logged with a folder of code."""
    helper = tmp_path / "code" / "doubling"
    helper.mkdir(parents=True)
    (helper / "__init__.py").write_text("def double(x):\n    return 2 * x\n")
    source = """
import mlflow.pyfunc

class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        from doubling import double
        return double(model_input["x"])

mlflow.models.set_model(Double())
"""
    (tmp_path / "double.py").write_text(source)
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        from mlflow.models import infer_signature

        mlflow.set_tracking_uri(mlflow_server)
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                python_model=str(tmp_path / "double.py"),
                name="model",
                registered_model_name="doubling",
                signature=infer_signature(frame, frame["x"]),
                input_example=frame,
                code_paths=[str(helper)],
                pip_requirements=REQUIREMENTS,
            )
        mlflow.set_tracking_uri("")
        changes = {"mlflow_tracking_uri": mlflow_server}
        with serving_model(pyfunc_settings("models:/doubling/1", tmp_path, **changes)) as client:
            answer = client.post("/predict", json={"instances": [{"x": 21}]})

    assert answer.json()["predictions"] == [42]


def test_optional_columns_without_values_reach_the_model_as_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": [1.5, None], "text": ["a", None], "key": [1, 2]})
    with warnings.catch_warnings(action="ignore"):
        from mlflow.models import infer_signature

        folder = save_code(tmp_path / "model", ECHO, signature=infer_signature(frame, ["x"]), input_example=frame)
        with serving_model(settings(folder, tmp_path)) as client:
            answer = client.post("/predict", json={"instances": [{"key": 3}]})

    assert answer.json()["predictions"] == [{"label": "['nan', 'None', '3'] ['float64', 'object', 'int64'] None"}]


def test_mlflow_checks_the_contents_of_a_list(tmp_path: Path) -> None:
    frame = pd.DataFrame({"tags": [["a", "b"]], "score": [0.5]})
    with warnings.catch_warnings(action="ignore"):
        from mlflow.models import infer_signature

        signature = infer_signature(frame, ["x"])
        folder = save_code(tmp_path / "model", ECHO, signature=signature, input_example=frame)
        with serving_model(settings(folder, tmp_path)) as client:
            good = client.post("/predict", json={"instances": [{"tags": ["c"], "score": 1}]})
            bad = client.post("/predict", json={"instances": [{"tags": [1], "score": 1}]})
            no_list = client.post("/predict", json={"instances": [{"tags": "c", "score": 1}]})

    assert good.status_code == 200, good.text
    assert bad.status_code == 422
    assert "do not fit the model's signature" in bad.json()["detail"]
    assert no_list.json()["errors"] == [{"row": 0, "column": "tags", "problem": "must be a list, not a string"}]
