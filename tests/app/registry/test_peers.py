"""Pods of one release that obtain the model from each other: real processes, a real MLflow server that goes away."""

import hashlib
import json
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.model.contract import MODEL_FILE
from app.registry import copies
from app.registry.copies import Copy, read_copy
from app.registry.peer_server import Offer, PeerServer
from app.registry.peers import MODEL_PATH, TOKEN_HEADER, Peers, full_name, token_of
from app.settings import Settings
from tests.app.harness import MODEL, logged, settings_for
from tests.app.registry.test_download import call
from tools.loopback import free_port, until

URI = f"models:/{MODEL}@champion"
NOWHERE = "http://127.0.0.1:1"  # nothing listens: MLflow is unreachable
HOST = "localhost"


class Pod:
    """One pod of a release, in this process."""

    def __init__(self, settings: Settings, client: TestClient) -> None:
        self.settings = settings
        self.client = client

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = self.client.get("/model").json()
        return document

    @property
    def reasons(self) -> str:
        return str(self.client.get("/health/ready").json()["reasons"])

    @property
    def ready(self) -> bool:
        return self.client.get("/health/ready").status_code == 200


@contextmanager
def pod(folder: Path, revision: str, port: int, tracking_uri: str, **changes: Any) -> Iterator[Pod]:
    """Yield a pod that has started."""
    named = {"peers_host": HOST, "peers_port": port, "peers_patience_seconds": 1, "revision": revision}
    settings = settings_for(URI, folder, mlflow_tracking_uri=tracking_uri, **named, **changes)
    with TestClient(create_app(settings)) as client:
        yield Pod(settings, client)


@contextmanager
def ready(folder: Path, revision: str, port: int, tracking_uri: str, **changes: Any) -> Iterator[Pod]:
    """Yield a pod that is ready."""
    with pod(folder, revision, port, tracking_uri, **changes) as started:
        until(lambda: started.ready)
        yield started


@contextmanager
def alias(server: str, version: str) -> Iterator[None]:
    """Move the alias within the block."""
    body = {"name": MODEL, "alias": "champion"}
    call(server, "POST", "mlflow/registered-models/alias", body | {"version": version})
    try:
        yield
    finally:
        call(server, "POST", "mlflow/registered-models/alias", body | {"version": "1"})


@pytest.fixture(scope="module")
def second(mlflow_server: str, registered: str) -> str:
    """Version 2 of the model, with the files of version 1."""
    with warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        client = MlflowClient(mlflow_server)
        source = str(client.get_model_version(MODEL, "1").source)
        created = client.create_model_version(MODEL, source, registered, model_id=source.rpartition("/")[2])
    assert created.version in (2, "2")
    return "2"


def test_pods_of_a_replica_set_serve_one_version(mlflow_server: str, second: str, tmp_path: Path) -> None:
    port = free_port()
    with ready(tmp_path / "a", "rs1", port, mlflow_server) as first, alias(mlflow_server, second):
        with ready(tmp_path / "b", "rs1", port, mlflow_server) as sibling:
            copied = sibling.document
        with ready(tmp_path / "c", "rs2", port, mlflow_server) as rollout:
            new = rollout.document

        same = ("version", "sha256", "run_id", "metrics", "parameters", "environment", "input_example")
        assert [copied[key] for key in same] == [first.document[key] for key in same]
        assert (first.document["origin"], first.document["confirmed"]) == ("source", True)
        assert (copied["version"], copied["origin"], copied["confirmed"]) == ("1", "peer", True)
        assert (new["version"], new["origin"]) == (second, "source")


def test_pod_starts_from_a_pod_of_its_replica_set_without_mlflow(
    mlflow_server: str, registered: str, tmp_path: Path
) -> None:
    port = free_port()
    with (
        ready(tmp_path / "a", "rs1", port, mlflow_server) as first,
        ready(tmp_path / "b", "rs1", port, NOWHERE) as sibling,
    ):
        assert sibling.document["run_id"] == registered
        assert sibling.document["origin"] == "peer"
        assert sibling.document["files"] == first.document["files"]
        body = sibling.document["input_example"]
        answers = [each.client.post("/predict", json=body).json()["predictions"] for each in (first, sibling)]
    assert answers[0] == answers[1]


def test_container_that_restarts_serves_the_version_of_its_cache(
    mlflow_server: str, second: str, tmp_path: Path
) -> None:
    with ready(tmp_path, "rs1", free_port(), mlflow_server):
        pass

    with alias(mlflow_server, second), ready(tmp_path, "rs1", free_port(), mlflow_server) as again:
        assert (again.document["version"], again.document["origin"]) == ("1", "cache")
        assert again.document["confirmed"]


def test_new_rollout_takes_an_earlier_copy_only_while_mlflow_is_away(
    mlflow_server: str, registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.CONFIRM_SECONDS", 0.1)
    port = free_port()
    with ready(tmp_path / "a", "rs1", port, mlflow_server), logged() as lines:
        begin = time.monotonic()
        with ready(tmp_path / "b", "rs2", port, NOWHERE) as new:
            assert time.monotonic() - begin >= 1  # its patience
            assert new.document["run_id"] == registered
            assert (new.document["origin"], new.document["confirmed"]) == ("peer", False)
            labels = f'model_name="{MODEL}",model_version="1",origin="peer"'
            confirmed = f"model_origin_confirmed{{{labels}}}"
            text = new.client.get("/metrics").text
            assert f"{confirmed} 0.0" in text or confirmed not in text  # the registry of metrics is the process's
            assert not new.document["confirmed"]
    assert any(
        "an earlier copy of the model is served, because its source is unreachable" in x["message"] for x in lines
    )


def test_copy_is_confirmed_when_the_registry_names_its_version(
    mlflow_server: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.CONFIRM_SECONDS", 0.1)
    with ready(tmp_path, "rs1", free_port(), mlflow_server):
        pass
    record = tmp_path / "cache" / copies.RECORD
    known = read_copy(record.read_bytes())
    assert known is not None
    record.write_bytes(replace(known, confirmed=False).to_json())

    with alias(mlflow_server, second), ready(tmp_path, "rs1", free_port(), mlflow_server) as again:
        time.sleep(1)
        assert not again.document["confirmed"], "the alias names another version"
        with alias(mlflow_server, "1"):
            until(lambda: again.document["confirmed"])

    confirmed = read_copy(record.read_bytes())
    assert confirmed == known


@pytest.mark.usefixtures("registered")
def test_alias_that_does_not_exist_is_not_replaced_by_a_copy(mlflow_server: str, tmp_path: Path) -> None:
    """The registry answers, so the rollout stops and the earlier pods continue."""
    port = free_port()
    with ready(tmp_path / "a", "rs1", port, mlflow_server) as first:
        body = {"name": MODEL, "alias": "champion"}
        call(mlflow_server, "DELETE", "mlflow/registered-models/alias", body)
        try:
            with pod(tmp_path / "b", "rs2", port, mlflow_server) as new:
                until(lambda: "alias champion not found" in new.reasons)
                time.sleep(2)  # longer than its patience
                assert not new.ready
        finally:
            call(mlflow_server, "POST", "mlflow/registered-models/alias", body | {"version": "1"})
        assert first.ready


@contextmanager
def offering(settings: Settings, folder: Path, copy: Copy, token: str = "") -> Iterator[None]:
    """Offer a copy on the port that the settings name."""
    server = PeerServer(settings.peers_port, token, lambda: Offer(copy, folder))
    server.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def offer(mlflow_server: str, registered: str, tmp_path: Path) -> tuple[Settings, Copy, Path]:
    """Settings of a pod, and the copy that another one has, whose folder tests may change."""
    with ready(tmp_path / "a", "rs1", free_port(), mlflow_server) as first:
        cache = first.settings.cache_dir
    copy = read_copy((cache / copies.RECORD).read_bytes())
    assert copy is not None
    assert copy.provenance.run_id == registered
    settings = settings_for(
        URI, tmp_path / "b", mlflow_tracking_uri=mlflow_server, peers_host=HOST, peers_port=free_port(), revision="rs1"
    )
    return settings, copy, cache / f"{MODEL}-1"


def start(settings: Settings) -> tuple[dict[str, Any], str]:
    """Start a pod and return its model and its log."""
    with logged() as lines, TestClient(create_app(settings)) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        document = client.get("/model").json()
    return document, "\n".join(line["message"] for line in lines)


def test_pod_that_sends_other_bytes_is_not_believed(offer: tuple[Settings, Copy, Path]) -> None:
    settings, copy, folder = offer
    content = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with offering(settings, folder, copy):
        document, log = start(settings)

    assert document["origin"] == "source"
    assert f"sent a different {MODEL_FILE} than it described" in log


def test_pod_that_offers_another_model_is_refused_by_a_pin(offer: tuple[Settings, Copy, Path]) -> None:
    settings, copy, folder = offer
    true, _ = start(settings.model_copy(update={"peers_host": ""}))
    name = "input_example.json"
    (folder / name).write_text((folder / name).read_text().replace("columns", "columns "))
    changed = (folder / name).read_bytes()
    forged = replace(copy, files=copy.files | {name: copies.File(len(changed), hashlib.sha256(changed).hexdigest())})

    with offering(settings, folder, forged):
        document, log = start(
            settings.model_copy(update={"model_sha256": true["sha256"], "cache_dir": settings.cache_dir / "new"})
        )

    assert (document["origin"], document["sha256"]) == ("source", true["sha256"])
    assert f"but {true['sha256']} is pinned" in log


def test_pods_with_credentials_for_mlflow_answer_only_each_other(offer: tuple[Settings, Copy, Path]) -> None:
    settings, copy, folder = offer
    ours = settings.model_copy(update={"tracking_username": settings.tracking_username.__class__("ada")})
    stranger = Peers(settings, time.monotonic() + 10)

    assert token_of(settings) == ""
    assert token_of(ours)
    with offering(settings, folder, copy, token_of(ours)):
        assert list(stranger.copies()) == []
        assert next(found for _, found in Peers(ours, time.monotonic() + 10).copies()) == copy
        request = Request(f"http://127.0.0.1:{settings.peers_port}{MODEL_PATH}", headers={TOKEN_HEADER: "wrong"})
        with pytest.raises(OSError, match="401"), urlopen(request, timeout=300):  # noqa: S310
            pass


@pytest.mark.parametrize(
    "path", ["/v1/files/../record.json", "/v1/files/%2e%2e/record.json", "/v1/files//etc/passwd", "/v1/files/", "/"]
)
def test_only_files_of_the_model_are_offered(offer: tuple[Settings, Copy, Path], path: str) -> None:
    settings, copy, folder = offer

    with offering(settings, folder, copy), socket.create_connection(("127.0.0.1", settings.peers_port), 5) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert b"404" in client.recv(100)


@pytest.mark.parametrize("path", ["../record.json", "/etc/passwd", "a/../../b", "a//b", "", ".", "a\\b", "a/", "a\nb"])
def test_description_with_a_path_outside_of_the_folder_is_refused(
    offer: tuple[Settings, Copy, Path], path: str
) -> None:
    _, copy, _ = offer
    document = json.loads(copy.to_json())
    document["files"][path] = {"bytes": 1, "sha256": "0" * 64}

    assert read_copy(copy.to_json()) == copy
    assert read_copy(json.dumps(document).encode()) is None


def test_four_slow_readers_do_not_keep_others_from_starting(offer: tuple[Settings, Copy, Path]) -> None:
    settings, copy, folder = offer

    with offering(settings, folder, copy), ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(("127.0.0.1", settings.peers_port), 5))
        document, _ = start(settings)

    assert document["origin"] == "source"


@pytest.mark.parametrize(
    ("host", "search", "expected"),
    [
        (
            "a-peers.models",
            "models.svc.cluster.local svc.cluster.local cluster.local",
            "a-peers.models.svc.cluster.local.",
        ),
        ("a-peers.models", "models.svc.k8s.example. svc.k8s.example.", "a-peers.models.svc.k8s.example."),
        ("a-peers.models", "example.com", "a-peers.models"),
        ("localhost", "models.svc.cluster.local svc.cluster.local", "localhost"),
        ("10.0.0.7", "models.svc.cluster.local svc.cluster.local", "10.0.0.7"),
    ],
)
def test_name_of_the_service_is_not_searched_outside_the_cluster(host: str, search: str, expected: str) -> None:
    assert full_name(host, f"nameserver 10.96.0.10\nsearch {search}\noptions ndots:5\n") == expected
