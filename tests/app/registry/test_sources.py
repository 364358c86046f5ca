"""Sources of models other than the registry: MLflow's runs and logged models, object storage and web servers."""

import http.server
import shutil
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import xgboost as xgb

from app.errors import LoadError
from app.model.booster import Matrix
from app.model.contract import MODEL_FILE
from app.model.digest import digest_of
from app.model.files import ModelFiles
from app.model.pyfunc import check
from app.registry.artifacts import MOST_FILES, UnknownError
from app.registry.load import load_model
from app.registry.object_storage import StoredArtifacts
from app.registry.obtain import obtain
from app.registry.peers import Peers, share
from app.uri import StoredFolder
from tests.app.harness import COLUMNS, MODEL, serving, settings_for
from tests.e2e.certificates import issue
from tests.s3 import s3_server
from tools.loopback import free_port

URIS = ["models:/{model}", "runs:/{run}/model", "mlflow-artifacts:/{path}"]
NAMES = {"models": "", "runs": "model", "mlflow-artifacts": "artifacts"}


@pytest.fixture(scope="module")
def parts(mlflow_server: str, registered: str) -> dict[str, str]:
    """What the URIs of version 1 consist of."""
    with warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        client = MlflowClient(mlflow_server)
        model = str(client.get_model_version(MODEL, "1").source).rpartition("/")[2]
        location = client.get_logged_model(model).artifact_location
    return {"model": model, "run": registered, "path": location.partition(":/")[2].strip("/")}


@pytest.mark.parametrize("form", URIS)
def test_model_of_a_run_is_served(
    mlflow_server: str, parts: dict[str, str], rows: Matrix, booster: xgb.Booster, tmp_path: Path, form: str
) -> None:
    uri = form.format(**parts)
    data = [[float(a), float(b), int(c)] for a, b, c in rows]
    with serving(settings_for(uri, tmp_path, mlflow_tracking_uri=mlflow_server, load_timeout_seconds=120)) as client:
        model = client.get("/model").json()
        answer = client.post("/predict", json={"columns": COLUMNS, "data": data}).json()

    assert model["name"] == (NAMES[form.partition(":")[0]] or parts["model"])
    assert (model["uri"], model["origin"], model["version"]) == (uri, "source", model["sha256"][:12])
    of_run = form.partition(":")[0] != "mlflow-artifacts"
    assert model["run_id"] == parts["run"]  # MLmodel names it too
    assert model["metrics"] == ({"auc": 0.9} if of_run else {})
    assert model["git_commit"] == ("0123abc" if of_run else "")
    found = [each["probabilities"]["1"] for each in answer["predictions"]]
    assert found == booster.inplace_predict(rows, validate_features=False).tolist()


@pytest.mark.parametrize("form", URIS)
def test_all_files_of_a_model_of_another_flavor_are_downloaded(
    mlflow_server: str, parts: dict[str, str], tmp_path: Path, form: str
) -> None:
    settings = settings_for(form.format(**parts), tmp_path, mlflow_tracking_uri=mlflow_server, model_flavor="pyfunc")

    found = obtain(settings, lambda folder, _: check(folder), _soon())

    assert found.copy is not None
    others = {"conda.yaml", "python_env.yaml", "requirements.txt", "serving_input_example.json"}
    assert set(found.copy.files) == {"MLmodel", MODEL_FILE, "input_example.json", *others}


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("models:/m-" + "0" * 32, "MLflow answers: Logged model with ID 'm-" + "0" * 32),
        ("runs:/" + "0" * 32 + "/model", "MLflow answers: Run with id=" + "0" * 32 + " not found"),
        ("runs:/{run}/other", "its folder does not contain MLmodel"),
        ("mlflow-artifacts:/nowhere", "its folder does not contain MLmodel"),
    ],
)
def test_unknown_model_of_a_run_is_named(
    mlflow_server: str, parts: dict[str, str], tmp_path: Path, uri: str, cause: str
) -> None:
    settings = settings_for(uri.format(**parts), tmp_path, mlflow_tracking_uri=mlflow_server)

    assert cause in str(refusal(settings))


def refusal(settings: Any, seconds: float = 20) -> LoadError:
    """Return the error of a model that cannot be obtained; nothing of it stays in the cache."""
    with pytest.raises(LoadError) as caught:
        load_model(settings, time.monotonic() + seconds)
    cache = settings.cache_dir
    assert not cache.exists() or list(cache.iterdir()) == []
    return caught.value


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a real S3 server, and yield the folder of its bucket `models`."""
    (tmp_path / "s3" / "models").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "s3" / "models"


def test_model_in_s3_is_served(saved: Path, bucket: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, bucket / "team" / "churn")
    shutil.copytree(saved, folder / "deep" / "er")
    settings = settings_for("s3://models/team/churn", tmp_path)
    expected = load_model(settings.model_copy(update={"model_uri": folder.as_uri()}), _soon()).model

    found = load_model(settings, _soon())

    assert found.model.sha256 == expected.sha256
    assert found.model.provenance.identity == {"name": "churn", "version": expected.sha256[:12]}
    assert (found.origin, found.confirmed) == ("source", True)
    assert sorted(found.copy.files if found.copy else ()) == sorted(expected.files)
    rows = expected.signature.from_split(**_example(expected))
    assert found.model.predict(rows) == expected.predict(rows)


def test_all_files_of_a_folder_in_s3_are_downloaded_for_another_flavor(
    saved: Path, bucket: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved, bucket / "churn")
    shutil.copytree(saved, folder / "deep" / "er")
    settings = settings_for("s3://models/churn", tmp_path, model_flavor="pyfunc")

    found = obtain(settings, lambda folder, _: check(folder), _soon())

    wanted = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(found.copy.files if found.copy else ()) == wanted
    assert found.model.sha256 == check(folder).sha256


def _soon() -> float:
    return time.monotonic() + 100


def _example(model: Any) -> dict[str, Any]:
    example: dict[str, Any] = model.example
    return {"columns": example["columns"], "data": example["data"]}


def test_wrong_s3_key_is_named(saved: Path, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved, bucket / "churn")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")

    error = refusal(settings_for("s3://models/churn", tmp_path))

    assert str(error).startswith("the storage denies access (The request signature we calculated does not match")
    assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)
    assert "geheim" not in str(error)


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("s3://models/nothing", "the storage has no object below this path"),
        (
            "s3://absent/churn",
            "the storage does not have the bucket or the file (The specified bucket does not exist.)",
        ),
        ("s3://models", "its folder does not contain MLmodel"),
    ],
)
def test_model_that_is_not_in_s3_is_named(saved: Path, bucket: Path, tmp_path: Path, uri: str, cause: str) -> None:
    shutil.copytree(saved, bucket / "churn")

    error = refusal(settings_for(uri, tmp_path))

    assert str(error).startswith(cause)


def test_file_that_vanishes_from_s3_is_named(saved: Path, bucket: Path) -> None:
    shutil.copytree(saved, bucket / "churn")
    artifacts = StoredArtifacts(StoredFolder("s3", "models", "churn"), _soon())
    assert artifacts.listing("")[0][MODEL_FILE] == (saved / MODEL_FILE).stat().st_size
    (bucket / "churn" / MODEL_FILE).unlink()

    with pytest.raises(UnknownError, match="the storage does not have the bucket or the file"):
        list(artifacts.download(MODEL_FILE, None, 10**9))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://storage.invalid"])
def test_unreachable_storage_is_retryable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    begin = time.monotonic()

    error = refusal(settings_for("s3://models/churn", tmp_path), seconds=5)

    assert str(error).startswith("the storage does not answer as expected (")
    assert error.retryable
    assert time.monotonic() - begin < 15


def test_model_in_s3_that_exceeds_the_size_limit_is_rejected(saved: Path, bucket: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, bucket / "churn")

    assert "its files exceed model.maxBytes" in str(
        refusal(settings_for("s3://models/churn", tmp_path, model_max_bytes=9))
    )


def test_folder_in_s3_with_too_many_objects_is_rejected(saved: Path, bucket: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, bucket / "churn")
    for number in range(MOST_FILES):
        (bucket / "churn" / f"{number}").touch()

    assert f"its folder has more than {MOST_FILES} files" in str(
        refusal(settings_for("s3://models/churn", tmp_path), 60)
    )


def test_pods_with_a_key_for_s3_copy_the_model_from_each_other(saved: Path, bucket: Path, tmp_path: Path) -> None:
    """Also after the folder has changed: the pods of a ReplicaSet serve one version."""
    shutil.copytree(saved, bucket / "churn")
    changes = {"peers_host": "localhost", "peers_port": free_port(), "revision": "rs1"}
    with serving(settings_for("s3://models/churn", tmp_path / "a", **changes)) as first:
        (bucket / "churn" / "contract.json").unlink()
        with serving(settings_for("s3://models/churn", tmp_path / "b", **changes)) as second:
            documents = [each.get("/model").json() for each in (first, second)]

    assert [each["origin"] for each in documents] == ["source", "peer"]
    assert documents[0]["sha256"] == documents[1]["sha256"]


def test_pods_without_a_common_secret_do_not_offer_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod with a cloud's identity cannot tell whether another may read the bucket."""
    settings = settings_for("s3://models/churn", tmp_path, peers_host="localhost")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    assert share(settings)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert not share(settings)
    assert list(Peers(settings, _soon()).copies()) == []


@contextmanager
def web_server(folder: Path, status: Callable[[str], int] = lambda _: 0) -> Iterator[str]:
    """Serve a folder by HTTPS with a certificate of the authority `ca.crt` next to it, and yield its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if code := status(self.path):
                self.send_response(code)
                self.send_header("Location", "https://elsewhere.example/")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: Any) -> None:
            """Suppress the log."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    place = folder.parent
    issue(place, "ca", "/CN=test", "")
    issue(place, "server", "/CN=127.0.0.1", "IP:127.0.0.1")
    context.load_cert_chain(place / "server.crt", place / "server.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def test_model_on_a_web_server_is_served(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "input_example.json").unlink()  # what does not exist is not needed
    digest = digest_of(ModelFiles(copied).digests())
    with web_server(copied) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        found = load_model(settings_for(f"{address}/.", tmp_path, model_sha256=digest, model_name="churn"), _soon())

    assert found.model.sha256 == digest
    assert found.model.provenance.identity == {"name": "churn", "version": digest[:12]}
    assert found.copy is not None
    assert sorted(found.copy.files) == ["MLmodel", "contract.json", MODEL_FILE]


@pytest.mark.parametrize(
    ("status", "cause", "retryable"),
    [
        (302, "the web server redirects elsewhere (302); set model.uri to the final address", False),
        (401, "the web server returns status 401; check that the files can be read without credentials", False),
        (404, "its folder does not contain MLmodel", False),
        (503, "the web server returns status 503", True),
    ],
)
def test_refusal_of_a_web_server_becomes_a_cause(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, cause: str, retryable: bool
) -> None:
    with web_server(copied, lambda _: status) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        error = refusal(settings_for(f"{address}/churn", tmp_path, model_sha256="0" * 64))

    assert str(error).startswith(cause)
    assert error.retryable is retryable


def test_model_on_a_web_server_with_another_digest_is_refused(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(copied) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        with pytest.raises(LoadError, match=f"but {'0' * 64} is pinned"):
            load_model(settings_for(f"{address}/.", tmp_path, model_sha256="0" * 64), _soon())


def test_web_server_with_an_unknown_certificate_is_refused(copied: Path, tmp_path: Path) -> None:
    with web_server(copied) as address:
        error = refusal(settings_for(f"{address}/churn", tmp_path, model_sha256="0" * 64))

    assert "certificate verify failed" in str(error)


def test_file_of_a_web_server_is_bounded(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(copied) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        settings = settings_for(f"{address}/.", tmp_path, model_sha256="0" * 64, model_max_bytes=9)

        assert "its files exceed model.maxBytes" in str(refusal(settings))


@pytest.mark.parametrize("name", ["", ".", "x"])
def test_folder_without_a_model_is_explained(tmp_path: Path, name: str) -> None:
    (tmp_path / "oci" / "x").mkdir(parents=True)
    (tmp_path / "oci" / "x" / "y").touch() if name == "x" else None

    with pytest.raises(LoadError) as caught:
        load_model(settings_for((tmp_path / "oci" / "x").as_uri(), tmp_path), _soon())

    empty = "is empty; put the files that MLflow wrote there; with oci://, this node's container runtime does not"
    assert (empty in str(caught.value)) is (name != "x")
