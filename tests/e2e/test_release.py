"""Tests of the whole chain on a real cluster: a model is trained, served, monitored and upgraded."""

import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from pytest_helm_charts.clusters import Cluster
from pytest_helm_charts.k8s.deployment import wait_for_deployments_to_run
from sklearn.datasets import load_breast_cancer
from xgboost import Booster, DMatrix

from tests.e2e.logs import result
from tests.e2e.programs import printed_by
from tools.cluster.access import Access, http, wait_for_series
from tools.cluster.cache import ROOT
from tools.cluster.console import run, wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import (
    ALIAS,
    MODEL,
    MONITORING,
    NAMESPACE,
    OBSERVABILITY,
    RELEASE,
    TRACKING_URI,
    champion,
    install_model,
)

FULLNAME = f"{RELEASE}-model-service"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, float]]:
    """Twenty rows of the training data set."""
    frame = load_breast_cancer(as_frame=True).data.head(20)
    records: list[dict[str, float]] = frame.to_dict(orient="records")
    return records


def test_every_pod_becomes_ready(kube_cluster: Cluster) -> None:
    wait_for_deployments_to_run(kube_cluster.kube_client, [FULLNAME], NAMESPACE, timeout_sec=60, missing_ok=False)


def test_predictions_match_the_booster(
    service: str, mlflow_url: str, rows: list[dict[str, float]], tmp_path: Path
) -> None:
    version = http(f"{service}/model")["version"]
    mlflow.set_tracking_uri(mlflow_url)
    folder = mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{version}", dst_path=str(tmp_path))
    booster = Booster(model_file=Path(folder) / "model.ubj")
    matrix = np.array([list(row.values()) for row in rows], dtype=np.float32)
    expected = booster.predict(DMatrix(matrix, feature_names=list(rows[0])))

    answer = http(f"{service}/predict", {"instances": rows})

    got = [prediction["probabilities"]["benign"] for prediction in answer["predictions"]]
    assert got == pytest.approx(expected.tolist(), abs=1e-6)
    assert answer["model"] == {"name": MODEL, "version": version}


def test_split_and_records_format_return_the_same_predictions(service: str, rows: list[dict[str, float]]) -> None:
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}

    answers = [http(f"{service}/predict", body) for body in (split, {"instances": rows})]
    assert answers[0].keys() == answers[1].keys() == {"model", "predictions", "tokens"}
    for part in ("model", "predictions"):  # tokens differ for each response
        assert answers[0][part] == answers[1][part]


def test_explanations_and_pages_are_served(service: str, rows: list[dict[str, float]]) -> None:
    explained = http(f"{service}/explain", {"instances": rows})["explanations"]
    pages = {}
    for path in ("/", "/docs", "/pages/page.js", "/pages/swagger-ui-bundle.js"):
        with urllib.request.urlopen(service + path, timeout=300) as answer:  # noqa: S310 - the cluster's own service
            pages[path] = answer.read().decode()

    for row, given in zip(explained, rows, strict=True):
        [output] = row["outputs"]
        assert list(output["contributions"]) == list(given)
        total = output["base_value"] + sum(output["contributions"].values())
        assert total == pytest.approx(output["margin"], abs=1e-4)
    assert 'id="form"' in pages["/"]
    assert 'src="pages/swagger-ui-bundle.js"' in pages["/docs"]
    assert all(len(content) > 500 for content in pages.values())


def test_prometheus_counts_each_request(service: str, prometheus: str, rows: list[dict[str, float]]) -> None:
    query = f'sum(http_server_requests_total{{namespace="{NAMESPACE}",path="/predict",status_code="200"}})'
    before = float(wait_for_series(prometheus, query)[0]["value"][1])
    for _ in range(7):
        http(f"{service}/predict", {"instances": rows})

    wait_for_series(prometheus, f"{query} >= {before + 7}")


def test_prometheus_scrapes_each_pod_every_15_seconds(prometheus: str) -> None:
    pods = wait_for_series(prometheus, f'up{{namespace="{NAMESPACE}",service="{FULLNAME}"}} == 1')
    targets = http(f"{prometheus}/api/v1/targets?state=active")["data"]["activeTargets"]

    assert len(pods) >= 2
    assert {t["scrapeInterval"] for t in targets if t["labels"].get("service") == FULLNAME} == {"15s"}


def test_autoscaler_reports_a_metric(access: Access) -> None:
    def utilisation() -> list[Any]:
        status = access.get("hpa", FULLNAME, NAMESPACE)["status"]
        metrics = status.get("currentMetrics") or []
        return [m for m in metrics if m.get("resource", {}).get("current", {}).get("averageUtilization") is not None]

    wait_for("the autoscaler's metric", utilisation, timeout_seconds=300, remedy="Does `kubectl top pods` work?")


def test_helm_test_passes(access: Access) -> None:
    printed = access.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout=300s")

    assert "Phase:" in printed
    assert "Succeeded" in printed


def test_mlflow_ui_is_reachable_by_service_name(access: Access) -> None:
    code = f"import urllib.request as r; print(r.urlopen('{TRACKING_URI}/', timeout=300).read().decode())"
    page = printed_by(access, NAMESPACE, APP.reference, "python3", "-c", code)

    assert "<title>MLflow</title>" in page


def train_and_promote(mlflow_url: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train, verify and promote a version with the programs of the Jobs, and return the output of `train`."""
    candidate, verified = folder / "candidate.json", folder / "verified.json"
    training, server = [sys.executable, "-m", "training"], ["--mlflow-tracking-uri", mlflow_url]
    options = ["--model-name", MODEL, "--seed", seed, "--max-depth", "3", "--result", candidate]
    printed = run([*training, "train", *server, *options], cwd=ROOT)
    run(
        [sys.executable, "-m", "app.tools.verify", "--candidate", candidate, "--result", verified, "--max-p99-ms=2000"],
        env=os.environ | {"MODEL_SERVICE_MLFLOW_TRACKING_URI": mlflow_url},
        cwd=ROOT,
    )
    given = ["--candidate", candidate, "--verification", verified, "--alias", ALIAS]
    # The test requires a second version, not a better one.
    run([*training, "promote", *server, *given, "--margin=-0.1", "--no-same-holdout"], cwd=ROOT)
    trained = result(printed)
    return trained


@pytest.mark.alone
def test_upgrade_serves_the_second_version(access: Access, prometheus: str, tmp_path: Path) -> None:
    before = champion(access)
    with access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as mlflow_url:
        # A repeated seed would reproduce the bytes of an earlier champion, which the gate does not promote.
        trained = train_and_promote(mlflow_url, 7 + int(before), tmp_path)
    assert trained["version"] != before
    assert champion(access) == trained["version"]

    install_model(access, f"models:/{MODEL}/{trained['version']}")

    with access.forward(f"service/{FULLNAME}", 80, NAMESPACE) as url:
        example = http(f"{url}/model")["input_example"]
        assert http(f"{url}/predict", example)["model"] == {"name": MODEL, "version": trained["version"]}
    info = f'model_info{{namespace="{NAMESPACE}",model_name="{MODEL}"}}'
    wait_for_series(prometheus, f'count({info[:-1]},model_version="{trained["version"]}"}}) >= 2')
    install_model(access, f"models:/{MODEL}@{ALIAS}")
