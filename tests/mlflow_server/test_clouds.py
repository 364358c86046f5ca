"""The server with databases and object stores of clouds. Long, because their emulators are fetched and built."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mlflow_server import stores
from tests.mlflow_server.test_prepare import prepare
from tools.cluster.cache import ROOT
from tools.loopback import answers, free_port, until

pytestmark = pytest.mark.long


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[str]:
    """Run a prepared server with its database in a folder unless the environment names another, and yield its URL."""
    own = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        **environment,
    }
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1", "--serve-artifacts"]
    with subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/health"), seconds=300)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def check(folder: Path, **environment: str) -> str:
    """Prepare a server, start it, run the check of `helm test` against it, and return what the check said."""
    prepared = prepare(folder, **environment)
    assert prepared.returncode == 0, prepared.stderr
    with server(folder, **environment) as url:
        # As clients outside of the emulator's machine: all transfers go through the server.
        direct = dict.fromkeys(
            ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"), "false"
        )
        own = {**os.environ, "MLFLOW_TRACKING_URI": url, "TERMINATION_MESSAGE_PATH": os.devnull, **direct}
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_server.check"],
            cwd=ROOT, env=own, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def refusal(folder: Path, **environment: str) -> str:
    """Return the termination message of a preparation that fails."""
    done = prepare(folder, **environment)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return (folder / "termination-log").read_text()


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with stores.mariadb() as address:
        yield address


def test_runs_are_stored_in_mysql(tmp_path: Path, mariadb: str) -> None:
    uri = f"mysql+pymysql://mlflow:mlflow@{mariadb}"

    assert "was logged with an artifact" in check(tmp_path, MLFLOW_BACKEND_STORE_URI=uri)
    assert "is up to date" in prepare(tmp_path, MLFLOW_BACKEND_STORE_URI=uri).stderr


@pytest.mark.parametrize(
    ("login", "name", "remedy"),
    [
        ("mlflow:wrong", "mlflow", "Correct user and password in mlflow.backendStoreUri."),
        ("mlflow:mlflow", "other", "grant it the schema"),
        ("reader:mlflow", "mlflow", "grant it the schema"),
    ],
)
def test_mysql_that_refuses_is_named_with_the_remedy(
    tmp_path: Path, mariadb: str, login: str, name: str, remedy: str
) -> None:
    uri = f"mysql+pymysql://{login}@{mariadb.removesuffix('mlflow')}{name}"

    said = refusal(tmp_path, MLFLOW_BACKEND_STORE_URI=uri)

    assert "Access denied for user" in said
    assert remedy in said
    assert "(1045" not in said


def test_artifacts_are_stored_in_azure(tmp_path: Path) -> None:
    from azure.storage.blob import BlobServiceClient

    with stores.azurite(tmp_path / "azurite") as connection:
        store = {
            "AZURE_STORAGE_CONNECTION_STRING": connection,
            "MLFLOW_ARTIFACTS_DESTINATION": f"wasbs://models@{stores.AZURE_ACCOUNT}.blob.core.windows.net/mlflow",
        }
        missing = refusal(tmp_path, **store)
        wrong = {**store, "AZURE_STORAGE_CONNECTION_STRING": connection.replace(stores.AZURE_KEY, "b3RoZXI=")}
        refused = refusal(tmp_path, **wrong)
        BlobServiceClient.from_connection_string(connection).create_container("models")
        said = check(tmp_path, **store)
        blobs = list(BlobServiceClient.from_connection_string(connection).get_container_client("models").list_blobs())

    assert "The container models (mlflow.artifactsDestination) of Azure Storage does not exist: create it" in missing
    assert "refuses the credentials" in refused
    assert "b3RoZXI=" not in refused
    assert "was logged with an artifact" in said
    assert [blob.name for blob in blobs if blob.name.endswith("artifact.bin")]


def test_artifacts_are_stored_in_google_cloud_storage(tmp_path: Path) -> None:
    with stores.google_storage(tmp_path / "google") as url:
        store = {"STORAGE_EMULATOR_HOST": url, "MLFLOW_ARTIFACTS_DESTINATION": "gs://models/mlflow"}
        missing = refusal(tmp_path, **{**store, "MLFLOW_ARTIFACTS_DESTINATION": "gs://other/mlflow"})
        said = check(tmp_path, **store)

    assert "The bucket other (mlflow.artifactsDestination) of Google Cloud Storage does not exist: create it" in missing
    assert "was logged with an artifact" in said
