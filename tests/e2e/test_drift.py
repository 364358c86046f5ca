"""Tests that the drift in Prometheus matches NumPy on a stream of real rows while pods are killed and added."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import xgboost as xgb

from app.model.contract import CONTRACT_FILE, MODEL_FILE, Contract, Variable
from tests.e2e.logs import result
from tests.e2e.stream import columns, rows
from tools.cluster.access import Access, promql
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.images import APP, TRAINING
from tools.cluster.main_job import ALIAS, MODEL, TRACKING_URI, image_values, install
from tools.generate.drift_report import PICTURE, distributions, draw

NAMESPACE, RELEASE = "drift", "watched"
FULLNAME = f"{RELEASE}-model-service"
SCRIPT = Path(__file__).parent / "stream.py"
PHASE_SECONDS = 120
TOLERANCE = 0.002
LOST = 0.03  # relative: counts of the killed pod since its last scrape are lost
SETTLED_SECONDS = 120  # the last scrape, and recording rules that depend on each other, a minute apart
ALERTS = ("ModelPredictionDrift", "ModelFeatureDrift")

type Numbers = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def watched(access: Access) -> Iterator[None]:
    """Release of three pods whose alerts fire within minutes."""
    install(
        access, RELEASE, ROOT / "charts" / "model-service", NAMESPACE, *image_values(APP),
        f"--set-string=model.uri=models:/{MODEL}@{ALIAS}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=replicaCount=3", "--set=resources.requests.cpu=50m", "--set=monitoring.serviceMonitor.enabled=true",
        "--set=monitoring.drift.maxFeatures=1000", "--set=monitoring.drift.window=30m",
        "--set=monitoring.drift.longWindow=30m", "--set=monitoring.prometheusRule.enabled=true",
        *(f"--set=monitoring.prometheusRule.for.{alert}=1m" for alert in ALERTS),
    )  # fmt: skip
    yield
    access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    access.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def model(mlflow_port: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Contract, xgb.Booster]:
    """Contract and booster of the served model, downloaded from MLflow."""
    folder = tmp_path_factory.mktemp("model")
    mlflow.set_tracking_uri(mlflow_port)
    for name in (CONTRACT_FILE, MODEL_FILE):
        mlflow.artifacts.download_artifacts(f"models:/{MODEL}@{ALIAS}/{name}", dst_path=str(folder))
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    return contract, xgb.Booster(model_file=str(folder / MODEL_FILE))


@pytest.fixture(scope="module")
def mlflow_port(access: Access) -> Iterator[str]:
    with access.forward("service/obs-mlflow", 5000, "monitoring") as url:
        yield url


def start(access: Access, seed: int, drifted: str) -> str:
    """Start a pod that streams rows, and return its name."""
    pod = f"stream-{seed}"
    access.kubectl(
        "run", pod, f"--namespace={NAMESPACE}", f"--image={TRAINING.reference}", "--restart=Never", "--command", "--",
        "python3", "-c", SCRIPT.read_text(), FULLNAME, str(PHASE_SECONDS), str(seed), drifted,
    )  # fmt: skip
    return pod


def end(access: Access, pod: str) -> dict[str, Any]:
    """Wait until a stream ends, and return its counts."""
    here = [pod, f"--namespace={NAMESPACE}"]
    access.kubectl("wait", "pod", *here, "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={PHASE_SECONDS + 90}s")
    counted = result(access.kubectl("logs", *here))
    return counted


def psi(prometheus: str) -> dict[str, float]:
    """Return the current PSI of each variable in Prometheus."""
    found = promql(prometheus, f'model:distribution_psi:short{{namespace="{NAMESPACE}"}}')
    return {each["metric"]["variable"]: float(each["value"][1]) for each in found}


def samples(prometheus: str) -> float:
    found = promql(
        prometheus, f'model:distribution_samples:increase_short{{namespace="{NAMESPACE}",role="prediction"}}'
    )
    return float(found[0]["value"][1]) if found else 0.0


def states(prometheus: str, alert: str) -> set[str]:
    """Return the states that an alert of the release has had so far."""
    found = promql(prometheus, f'max_over_time(ALERTS{{alertname="{alert}",namespace="{NAMESPACE}"}}[30m])')
    return {each["metric"]["alertstate"] for each in found}


def psi_by_numpy(variable: Variable, values: Numbers) -> float:
    places = np.searchsorted(np.array(variable.edges, dtype=np.float32), values[~np.isnan(values)])
    counts = [*np.bincount(places, minlength=len(variable.shares)), np.isnan(values).sum()]
    live = np.maximum(np.array(counts) / len(values), 1e-4)
    reference = np.maximum(np.array([*variable.shares, variable.missing]), 1e-4)
    return float(((live - reference) * np.log(live / reference)).sum())


def expected(model: tuple[Contract, xgb.Booster], sent: Numbers) -> dict[str, float]:
    """Return the PSI of each variable for the sent rows."""
    contract, booster = model
    assert contract.profile
    names = columns()
    found = {each.name: psi_by_numpy(each, sent[:, names.index(each.name)]) for each in contract.profile.features}
    scores = booster.predict(xgb.DMatrix(sent, feature_names=names))
    return found | {each.name: psi_by_numpy(each, scores) for each in contract.profile.predictions}


@pytest.mark.long
def test_drift_over_changing_pods_matches_numpy(
    access: Access, watched: None, model: tuple[Contract, xgb.Booster], prometheus: str
) -> None:
    del watched
    selector = f'model_distribution_values_total{{namespace="{NAMESPACE}"}}'
    wait_for(
        "three pods scraped",
        lambda: promql(prometheus, f"count(count by (pod) ({selector})) == 3"),
        timeout_seconds=300,
        remedy="",
    )
    sent: list[Numbers] = []
    table = []
    for seed, (drifted, disturbance) in enumerate((("real", "kill"), ("drifted", "scale"))):
        before = samples(prometheus)
        pod = start(access, seed, drifted)
        wait_for("half of the rows", lambda: samples(prometheus) > before + 4_000, timeout_seconds=300, remedy="")  # noqa: B023
        if disturbance == "kill":
            victim = access.get_all("pod", f"app.kubernetes.io/instance={RELEASE}", NAMESPACE)[0]["metadata"]["name"]
            access.kubectl("delete", "pod", victim, f"--namespace={NAMESPACE}", "--grace-period=0", "--force")
        else:
            access.kubectl("scale", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--replicas=4")
        counted = end(access, pod)
        assert counted["failures"] <= 5, counted  # requests in progress on the killed pod
        sent.append(rows(seed, drifted=drifted == "drifted"))
        wanted = expected(model, np.concatenate(sent))

        time.sleep(SETTLED_SECONDS)
        live = psi(prometheus)
        assert live.keys() == wanted.keys()
        table += [(drifted, name, live[name], value) for name, value in wanted.items()]
        if drifted == "real":
            assert [states(prometheus, alert) for alert in ALERTS] == [set(), set()]
    differences = [abs(found - value) for _, _, found, value in table]
    for drifted, name, found, value in table:
        print(f"{drifted:8} {name:24} PromQL {found:.4f} numpy {value:.4f} difference {found - value:+.4f}")
    print(f"{len(differences)} comparisons, largest {max(differences):.4f}, mean {np.mean(differences):.5f}")
    for drifted, name, found, value in table:
        assert abs(found - value) <= 5 * TOLERANCE + LOST * value, (drifted, name)
    for alert in ALERTS:
        wait_for(
            f"{alert}, first pending and then firing",
            lambda: {"pending", "firing"} <= states(prometheus, alert),  # noqa: B023
            timeout_seconds=300,
            remedy="",
        )
    draw(distributions(prometheus, NAMESPACE), PICTURE)
    print(f"drawn: {PICTURE}")
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
