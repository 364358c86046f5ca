"""MLflow as values-production.yaml has it, two pods on a real PostgreSQL and a real S3 server, for the tests of it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.images import MLFLOW
from tools.cluster.main_job import image_values
from tools.cluster.stores import BUCKET, S3_URL, install_stores
from tools.cluster.umbrella import copy_umbrella

RELEASE = "prod"
FULLNAME = f"{RELEASE}-mlflow"
PODS = "app.kubernetes.io/name=mlflow"
PROGRAM = Path(__file__).with_name("log_runs.py")
# This machine cannot reach the bucket, to which a server on S3 sends every client for its downloads.
os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"


@contextmanager
def stores(access: Access, namespace: str) -> Iterator[str]:
    """Install both stores in a namespace, yield its name, and take all of it away."""
    access.kubectl("delete", "namespace", namespace, "--ignore-not-found")
    try:
        install_stores(access, namespace)
        yield namespace
    finally:
        access.kubectl("delete", "namespace", namespace, "--wait=false")


def install_mlflow(access: Access, namespace: str, folder: Path, *flags: str) -> None:
    """Install or upgrade MLflow there as values-production.yaml has it, without waiting for it."""
    bucket = [f"--set=mlflow.mlflow.artifactsDestination=s3://{BUCKET}/artifacts"]
    bucket += [f"--set=mlflow.s3.endpointUrl={S3_URL}", "--set=mlflow.s3.region=us-east-1"]
    install_profiles(access, namespace, folder, ("existing-prometheus", "production"), *bucket, *flags)


def install_profiles(access: Access, namespace: str, folder: Path, profiles: tuple[str, ...], *flags: str) -> None:
    """Install or upgrade the umbrella with some of its files, without waiting for it."""
    chart = copy_umbrella(folder / "observability")
    command = ["upgrade", "--install", RELEASE, str(chart), "--namespace", namespace]
    command += [f"--values={chart / f'values-{profile}.yaml'}" for profile in profiles]
    access.helm(*command, *image_values(MLFLOW, "mlflow.image"), *flags)


def wait_until_ready(access: Access, namespace: str, timeout_seconds: int = 180) -> list[str]:
    """Wait until every pod of MLflow is ready, and return their names."""
    rollout = ["rollout", "status", f"deployment/{FULLNAME}", "--namespace", namespace]
    access.kubectl(*rollout, f"--timeout={timeout_seconds}s", timeout_seconds=timeout_seconds + 30)
    return [pod["metadata"]["name"] for pod in access.get_all("pod", PODS, namespace)]


@contextmanager
def logging_runs(access: Access, namespace: str, clients: int, runs: int) -> Iterator[list[dict[str, Any]]]:
    """Log runs from a pod, by the name of the Service, while the body runs.

    Yields:
        a list that afterwards holds what `log_runs.py` printed: a map per acknowledged run, and the sums as the last.
    """
    pod = [f"runs-of-{clients}", f"--namespace={namespace}"]
    arguments = [f"http://{FULLNAME}:5000", str(clients), str(runs), f"clients-{clients}"]
    access.kubectl(
        "run", *pod, f"--image={MLFLOW.reference}", "--restart=Never", "--command", "--",
        "python3", "-c", PROGRAM.read_text(), *arguments,
    )  # fmt: skip
    lines: list[dict[str, Any]] = []
    try:
        access.kubectl("wait", "pod", *pod, "--for=jsonpath={.status.phase}=Running", "--timeout=300s")
        yield lines
        wait_for(
            "the end of the runs",
            lambda: access.kubectl("get", "pod", *pod, "--output=jsonpath={.status.phase}") == "Succeeded",
            timeout_seconds=540,
            remedy="See the log of the pod.",
        )
        said = access.kubectl("logs", *pod).splitlines()
        lines += [json.loads(line) for line in said if line.startswith("{")]
        print("\n".join(line for line in said if not line.startswith("{")))  # shown by pytest when a test fails
    finally:
        access.kubectl("delete", "pod", *pod, "--wait=false")


def missing(client: MlflowClient, acknowledged: list[dict[str, Any]], folder: Path) -> list[str]:
    """Return what is not as it was acknowledged, one line each: run, parameter, metrics, artifact's bytes."""
    found = []
    for said in acknowledged:
        run = client.get_run(said["run_id"])
        losses = sorted(each.step for each in client.get_metric_history(said["run_id"], "loss"))
        if (run.info.status, run.data.params, losses) != ("FINISHED", {"number": str(said["number"])}, [0, 1]):
            found.append(f"{said}: {run.info.status} {run.data.params} {losses}")
        name = f"files/artifact-{said['number']}.bin"
        path = Path(client.download_artifacts(said["run_id"], name, str(folder)))
        if sha256(path.read_bytes()).hexdigest() != said["sha256"]:
            found.append(f"{said}: {path.stat().st_size} other bytes")
    return found


def waiting_reasons(access: Access, namespace: str) -> str:
    """Return what the init containers of MLflow's pods say: their termination messages and the ends of their logs."""
    texts = []
    for pod in access.get_all("pod", PODS, namespace):
        for status in pod["status"].get("initContainerStatuses", []):
            for state in (status["state"], status.get("lastState", {})):
                texts.append(state.get("terminated", {}).get("message", ""))
            if status["state"].get("running"):
                log = ["logs", pod["metadata"]["name"], "--namespace", namespace, "--container", status["name"]]
                texts.append(access.kubectl(*log))
    return "\n".join(texts)
