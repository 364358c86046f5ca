"""Tests of a scikit-learn pipeline that the image of docs/how-to/custom-image.md serves."""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.e2e.test_failures import termination_message, unready_release
from tools.cluster.access import Access, http
from tools.cluster.cache import ROOT
from tools.cluster.images import CUSTOM
from tools.cluster.main_job import MONITORING, OBSERVABILITY, image_values, install
from tools.cluster.registry import push

# The image is rebuilt after each change of the service image, and pip takes a minute or more.
pytestmark = pytest.mark.long

RELEASE = NAMESPACE = "sklearn"
MODEL = "flowers"
ROWS = pd.DataFrame(np.random.default_rng(0).random((40, 2)), columns=["petal", "sepal"])
VALUES = [
    f"--set=model.uri=models:/{MODEL}/1",
    "--set=model.flavor=pyfunc",
    f"--set=mlflow.trackingUri=http://{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local:5000",
    "--set=replicaCount=1",
    "--set=podDisruptionBudget.enabled=false",
    "--set=resources.requests.cpu=50m",
]


@pytest.fixture(scope="module")
def pipeline(access: Access) -> Iterator[Pipeline]:
    """Pipeline that is version 1 of a registered model. The scikit-learn flavor stores it with skops, not pickle."""
    labels = np.where(ROWS.petal > 0.5, "large", "small")
    found = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, labels)
    with (
        access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as url,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore"),
    ):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        import mlflow.sklearn
        from mlflow.models import infer_signature

        mlflow.set_tracking_uri(url)
        try:
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    found,
                    name="model",
                    registered_model_name=MODEL,
                    signature=infer_signature(ROWS, found.predict_proba(ROWS)),
                    input_example=ROWS.head(2),
                    pyfunc_predict_fn="predict_proba",
                    pip_requirements=str(ROOT / "docs" / "how-to" / "custom-image" / "requirements.txt"),
                )
            yield found
        finally:
            mlflow.MlflowClient().delete_registered_model(MODEL)
            mlflow.set_tracking_uri("")


@pytest.fixture(scope="module")
def namespace(access: Access, pipeline: Pipeline) -> Iterator[Access]:
    del pipeline
    push(CUSTOM)
    access.kubectl("create", "namespace", NAMESPACE)
    try:
        yield access
    finally:
        access.kubectl("delete", "namespace", NAMESPACE)


def test_predictions_match_scikit_learn(namespace: Access, pipeline: Pipeline) -> None:
    install(namespace, RELEASE, ROOT / "charts" / "model-service", NAMESPACE, *VALUES, *image_values(CUSTOM))
    with namespace.forward(f"service/{RELEASE}-model-service", 80, NAMESPACE) as url:
        known = http(f"{url}/model")
        answer = http(f"{url}/predict", {"columns": list(ROWS), "data": ROWS.to_numpy().tolist()})

    assert known["flavor"] == "pyfunc"
    assert known["mismatches"] == []
    assert np.allclose(answer["predictions"], pipeline.predict_proba(ROWS), rtol=1e-12, atol=0)
    namespace.helm("test", RELEASE, "--namespace", NAMESPACE)
    namespace.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def test_image_without_the_packages_names_them(access: Access, pipeline: Pipeline) -> None:
    del pipeline
    with unready_release(access, "no-mlflow", f"models:/{MODEL}/1", "--set=model.flavor=pyfunc") as selector:
        message = termination_message(access, selector)

    assert "model.flavor=pyfunc requires the package mlflow, which is not installed in this image" in message
    assert "build an image FROM this one with the model's packages" in message
