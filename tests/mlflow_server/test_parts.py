"""The parts of the preparation that need no server: URIs, the Secret, artifact stores and `helm test`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mlflow_server import artifacts, auth, database
from mlflow_server.errors import NotReadyError
from tools.cluster.cache import ROOT

KEY = "mlflow.backendStoreUriFrom"
LOGIN = {
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "twelve-or-more",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "any",
    "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://mlflow:a%25b@database/mlflow",
    "AUTH_DEFAULT_PERMISSION": "READ",
    "AUTH_CACHE_TTL_SECONDS": "0",
}


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set a complete environment for authentication, which a test changes."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://a:b@c/d",
        "postgresql+psycopg://a:p%40ss%2Fw%3Ard%25@[::1]:5432/d",
        "mysql+pymysql://a:b@c/d",
        "sqlite:////mlflow/a.db",
    ],
)
def test_database_uri_is_parsed(uri: str) -> None:
    assert database.parse(uri, KEY).render_as_string(hide_password=False).partition(":")[0] in uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", f"{KEY} is not a database URI: use postgresql+psycopg://<user>"),
        ("secret", f"{KEY} is not a database URI"),
        ("postgresql://a:secret@secret@c/d", f"{KEY} is not a database URI"),
        ("postgresql://a:secret@c:port/d", f"{KEY} is not a database URI"),
        ("postgres://a:secret@c/d", f"{KEY} starts with postgres://, for which this image has no driver"),
        ("mysql://a:secret@c/d", f"{KEY} starts with mysql://, for which this image has no driver"),
        ("postgresql+psycopg2://a:secret@c/d", f"{KEY} starts with postgresql+psycopg2://"),
    ],
)
def test_invalid_uri_is_refused_without_repeating_it(uri: str, said: str) -> None:
    with pytest.raises(NotReadyError) as refused:
        database.parse(uri, KEY)

    assert str(refused.value).startswith(said)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MLFLOW_AUTH_ADMIN_USERNAME", "", "The administrator's name in auth.existingSecret is empty"),
        (
            "MLFLOW_AUTH_ADMIN_PASSWORD",
            "",
            "password in auth.existingSecret has 0 characters: use at least 12 characters",
        ),
        ("MLFLOW_AUTH_ADMIN_PASSWORD", "elevenchars", "password in auth.existingSecret has 11 characters"),
        ("MLFLOW_AUTH_ADMIN_PASSWORD", "password1234", "password in auth.existingSecret is publicly known"),
        ("MLFLOW_FLASK_SERVER_SECRET_KEY", "", "The key that signs forms is empty in auth.existingSecret"),
    ],
)
def test_invalid_login_is_named(login: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, said: str) -> None:
    login.setenv(name, value)

    with pytest.raises(NotReadyError) as refused:
        auth.write_settings(tmp_path / "basic_auth.ini")

    assert said in str(refused.value)
    assert not value or value not in str(refused.value)


def test_users_share_the_database_of_runs_or_have_their_own(login: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared = auth.write_settings(tmp_path / "a.ini")
    login.setenv("AUTH_DATABASE_URI", "sqlite:////mlflow/users.db")

    assert shared == LOGIN["MLFLOW_BACKEND_STORE_URI"]
    assert auth.write_settings(tmp_path / "b.ini") == "sqlite:////mlflow/users.db"


def test_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(NotReadyError, match=r"/file/artifacts \(mlflow.artifactsDestination\) cannot be created"):
        artifacts.check(str(tmp_path / "file" / "artifacts"))


def test_bucket_without_credentials_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(
        NotReadyError, match=r"bucket models .* at http://127.0.0.1:1 needs credentials, .* s3.existingSecret"
    ):
        artifacts.check("s3://models/mlflow")


def test_unreachable_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(NotReadyError, match=r"bucket models .* is unreachable: .*, and s3.endpointUrl\."):
        artifacts.check("s3://models/mlflow")


@pytest.mark.parametrize("destination", ["hdfs://models/mlflow", "ftp://models/mlflow"])
def test_store_without_a_client_is_refused(destination: str) -> None:
    with pytest.raises(NotReadyError, match="has no client: use one of file://, s3://, gs://, wasbs://, abfss://"):
        artifacts.check(destination)


def test_address_of_azure_must_name_an_account() -> None:
    with pytest.raises(NotReadyError, match=r"mlflow\.artifactsDestination=wasbs://models/mlflow is not valid"):
        artifacts.check("wasbs://models/mlflow")


@pytest.mark.parametrize(
    ("destination", "settings"),
    [
        ("gs://models/mlflow", {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}),
        (
            "wasbs://models@a.blob.core.windows.net/mlflow",
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/a;"},
        ),
    ],
)
def test_unreachable_store_of_a_cloud_is_named(
    monkeypatch: pytest.MonkeyPatch, destination: str, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(NotReadyError, match=r"models \(mlflow.artifactsDestination\) of .* is unreachable: "):
        artifacts.check(destination)


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """Yield a function that starts a server which answers every request with one status, and returns its address."""
    with ExitStack() as stack:

        def start(status: int) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

                def log_message(self, *_: object) -> None:
                    """Log nothing."""

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.mark.parametrize(("status", "said"), [(403, "refuses the credentials"), (503, "is unreachable: ")])
def test_azure_that_is_busy_does_not_blame_the_credentials(
    monkeypatch: pytest.MonkeyPatch, answering: Callable[[int], str], status: int, said: str
) -> None:
    connection = f"AccountName=a;AccountKey=YQ==;BlobEndpoint={answering(status)}/a;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)

    with pytest.raises(NotReadyError, match=said):
        artifacts.check("wasbs://models@a.blob.core.windows.net/mlflow")


def test_check_names_the_unreachable_server(tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.write_text("")
    own = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "TERMINATION_MESSAGE_PATH": str(message),
    }
    command = [sys.executable, "-m", "mlflow_server.check"]

    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 1
    assert message.read_text().startswith("http://127.0.0.1:1: ")
    assert "Traceback" not in done.stderr
