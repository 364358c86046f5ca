"""Long tests with PostgreSQL and an S3 server: runs and models survive a killed pod and an upgrade from MLflow 2."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tools.cluster.access import Access
from tools.cluster.cache import CACHE, LOGS
from tools.cluster.console import run, wait_for
from tools.cluster.production import (
    FULLNAME,
    PODS,
    PROGRAM,
    install_mlflow,
    logging_runs,
    missing,
    stores,
    wait_until_ready,
)
from tools.cluster.programs import only_one
from tools.cluster.stores import BUCKET, DATABASE_URI, KEYS, make_bucket, psql

pytestmark = pytest.mark.long

OLD_VERSION = "2.22.4"  # the last of MLflow 2
OLD_PACKAGES = (f"mlflow=={OLD_VERSION}", "sqlalchemy<2.1", "psycopg2-binary", "boto3")
REGISTER = """
import sys
from mlflow import MlflowClient
client, run_id = MlflowClient(sys.argv[1]), sys.argv[2]
client.create_registered_model("old")
source = f"{client.get_run(run_id).info.artifact_uri}/files"
version = client.create_model_version("old", source, run_id).version
client.set_registered_model_alias("old", "champion", version)
"""


def test_runs_survive_a_killed_pod(access: Access, tmp_path: Path) -> None:
    with stores(access, "production-kill") as namespace:
        make_bucket(access, namespace)
        install_mlflow(access, namespace, tmp_path)
        pods = wait_until_ready(access, namespace)

        with logging_runs(access, namespace, clients=8, runs=200) as lines:
            counted = "select count(*) from runs where status = 'FINISHED'"
            wait_for(
                "a quarter of the runs",
                lambda: int(psql(access, namespace, counted)) >= 50,
                timeout_seconds=300,
                remedy="See the log of the clients' pod.",
            )
            access.kubectl("delete", "pod", pods[0], "--namespace", namespace, "--grace-period=0", "--force")
            at_the_kill = int(psql(access, namespace, counted))
        *runs, sums = lines

        print(sums, "finished at the kill:", at_the_kill)
        assert at_the_kill < 200, "the pod was killed too late"
        assert sums["runs"] == len(runs) == len({each["number"] for each in runs})
        assert len(runs) > 190, "the other pod and client retries complete nearly all runs"
        for pod in wait_until_ready(access, namespace):
            with access.forward(f"pod/{pod}", 5000, namespace) as url:
                assert missing(MlflowClient(url), runs, tmp_path) == []


def old_python() -> Path:
    """Return the Python of a cached environment with an older MLflow, creating it if needed."""
    folder = CACHE / "old-mlflow" / OLD_VERSION
    with only_one("old-mlflow"):
        if not (folder / "bin" / "mlflow").exists():
            uv = shutil.which("uv") or CACHE / "uv" / "bin" / "uv"  # where tools/python installs it
            run([uv, "venv", "--quiet", "--clear", f"--python={sys.executable}", folder])
            install = [uv, "pip", "install", "--quiet", f"--python={folder / 'bin' / 'python'}", *OLD_PACKAGES]
            run(install, remedy="Check the network and uv's index settings, then run again.")
    return folder / "bin" / "python"


def answers(port: int) -> bool:
    """Return whether a process listens on a local port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def old_server(access: Access, namespace: str) -> Iterator[str]:
    """Run an older MLflow server locally with the database and bucket of the cluster, and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        access.forward("service/database", 5432, namespace) as database,
        access.forward("service/bucket", 7070, namespace) as bucket,
        (LOGS / "old-mlflow.log").open("w") as log,
    ):
        uri = DATABASE_URI.replace("+psycopg", "+psycopg2")  # the only driver that MLflow 2 supports
        uri = uri.replace("database:5432", database.removeprefix("http://"))
        places = [f"--backend-store-uri={uri}", f"--artifacts-destination=s3://{BUCKET}/artifacts"]
        command = [str(old_python()), "-m", "mlflow", "server", *places, f"--port={port}", "--workers=1"]
        environment = {**os.environ, **KEYS, "MLFLOW_S3_ENDPOINT_URL": bucket, "AWS_DEFAULT_REGION": "us-east-1"}
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0) as server:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_for("the older MLflow", lambda: answers(port), timeout_seconds=300, remedy=f"See {log.name}.")
                yield url
            finally:
                os.killpg(server.pid, 15)


def test_database_of_mlflow_2_is_migrated_without_loss(access: Access, tmp_path: Path) -> None:
    with stores(access, "production-upgrade") as namespace:
        make_bucket(access, namespace)
        with old_server(access, namespace) as url:
            printed = run([old_python(), PROGRAM, url, "2", "20", "old"])
            *runs, _ = [json.loads(line) for line in printed.splitlines()]
            assert len(runs) == 20
            run([old_python(), "-c", REGISTER, url, runs[0]["run_id"]])
        before = psql(access, namespace, "select version_num from alembic_version").strip()

        started = time.monotonic()
        install_mlflow(access, namespace, tmp_path)
        pods = wait_until_ready(access, namespace)
        print(f"two pods ready on the migrated database after {time.monotonic() - started:.0f} s")

        after = psql(access, namespace, "select version_num from alembic_version").strip()
        assert before != after
        assert [
            status["restartCount"]
            for pod in access.get_all("pod", PODS, namespace)
            for status in pod["status"]["initContainerStatuses"]
        ] == [0] * len(pods)
        with access.forward(f"service/{FULLNAME}", 5000, namespace) as url:
            client = MlflowClient(url)
            assert missing(client, runs, tmp_path) == []
            version = client.get_model_version_by_alias("old", "champion")
            assert (version.version, version.run_id) == ("1", runs[0]["run_id"])
            model = client.get_model_version_download_uri("old", version.version)
            assert model.endswith(f"{runs[0]['run_id']}/artifacts/files")
