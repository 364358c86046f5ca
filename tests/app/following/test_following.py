"""A service that follows an alias: a real MLflow server, real files, and real processes that try them."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from starlette.testclient import TestClient

from app.errors import LoadError
from app.following.gate import RefusedError, try_loading
from app.model import memory
from app.model.booster import Matrix
from app.model.contract import MODEL_FILE
from app.model.files import Provenance
from app.registry.copies import RECORD, Copy, read_copy
from app.registry.peer_server import Offer, PeerServer
from app.registry.refusals import Refusal, Refusals
from app.settings import Settings
from tests.app.following.registry import NAME, URI, Registry
from tests.app.harness import COLUMNS, logged, serving, settings_for, write_contract
from tests.app.model.mutations import mutated
from tools.loopback import free_port, until

NOWHERE = "http://127.0.0.1:1"  # nothing listens: MLflow is unreachable


def varied(saved: Path, folder: Path, model: bytes | None = None) -> Path:
    """Return a copy of the saved model, with another model file if one is given."""
    folder.mkdir()
    for path in saved.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    if model is not None:
        (folder / MODEL_FILE).write_bytes(model)
    return folder


def trained(rows: Matrix, label: Matrix) -> xgb.Booster:
    """Return a model with the same columns and classes as the saved one."""
    matrix = xgb.DMatrix(rows, label=label, feature_names=COLUMNS, feature_types=["float", "float", "int"])
    return xgb.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, matrix, 4)


def retrained(rows: Matrix) -> xgb.Booster:
    """Return a model whose predictions differ from those of the saved one."""
    return trained(rows, (rows[:, 0] > 0.5).astype(np.float32))


def failing(rows: Matrix) -> tuple[bytes, int]:
    """Return a model that predicts NaN on some rows, but not on its input example, and the number of such a row."""
    booster = trained(rows, rows[:, 2] % 2)
    matrix = xgb.DMatrix(rows, feature_names=COLUMNS, feature_types=["float", "float", "int"])
    leaves = booster.predict(matrix, pred_leaf=True)[:, 0].astype(int).tolist()
    row = next(i for i, leaf in enumerate(leaves) if leaf not in leaves[:2])  # the example has the first two rows
    document = json.loads(booster.save_raw("json"))
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["split_conditions"][leaves[row]] = float("nan")
    broken = xgb.Booster(model_file=bytearray(json.dumps(document).encode()))
    return bytes(broken.save_raw("ubj")), row


def body(rows: Matrix, *numbers: int) -> dict[str, Any]:
    """Return a request with some of the rows."""
    return {"columns": COLUMNS, "data": [[float(a), float(b), int(c)] for a, b, c in rows[list(numbers)]]}


@pytest.fixture(scope="module")
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture(scope="module")
def first(registry: Registry, saved: Path) -> str:
    """Version with the saved model."""
    return registry.register(saved)


@pytest.fixture(scope="module")
def second(registry: Registry, saved: Path, rows: Matrix, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Version with another model, whose files have the registered digest."""
    folder = varied(saved, tmp_path_factory.mktemp("second") / "model", bytes(retrained(rows).save_raw("ubj")))
    return registry.register(folder)


def settings_of(registry: Registry, folder: Path, **changes: Any) -> Settings:
    """Return settings of a service that looks often and waits for nothing."""
    quick = {"follow_poll_seconds": 0.1, "follow_stagger_seconds": 0, "follow_watch_seconds": 0}
    return settings_for(URI, folder, **{"mlflow_tracking_uri": registry.address, **quick, **changes})


def model_of(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/model").json()
    return document


def serves(client: TestClient, version: str, state: str = "settled") -> bool:
    """Return whether the service serves a version, in a state."""
    document = model_of(client)
    return (document["version"], document["following"]["state"]) == (version, state)


def test_moved_alias_swaps_the_model_without_a_failed_request(
    registry: Registry, first: str, second: str, booster: xgb.Booster, rows: Matrix, tmp_path: Path
) -> None:
    registry.point(first)
    own = {first: booster, second: retrained(rows)}
    expected = {version: model.inplace_predict(rows[:1], validate_features=False)[0] for version, model in own.items()}
    assert expected[first] != expected[second]
    answers: list[tuple[int, Any]] = []
    with serving(settings_of(registry, tmp_path, follow_watch_seconds=600)) as client:
        ended = threading.Event()

        def ask() -> None:
            while not ended.wait(0.002):
                response = client.post("/predict", json=body(rows, 0))
                answers.append((response.status_code, response.json()))

        clients = [threading.Thread(target=ask) for _ in range(2)]
        for each in clients:
            each.start()
        registry.point(second)
        until(lambda: serves(client, second, "watching"))
        known = model_of(client)
        text = client.get("/metrics").text
        record = read_copy((tmp_path / "cache" / RECORD).read_bytes())
        registry.point(first)
        until(lambda: serves(client, first))
        back = client.get("/metrics").text
        ended.set()
        for each in clients:
            each.join()

    assert {status for status, _ in answers} == {200}
    served = [
        (answer["model"]["version"], answer["predictions"][0]["probabilities"]["benign"]) for _, answer in answers
    ]
    assert {version for version, _ in served} == {first, second}
    assert {np.float32(answer) == expected[version] for version, answer in served} == {True}
    assert (known["following"]["alias_version"], known["following"]["previous"]) == (second, first)
    assert record is not None
    assert record.provenance.version == first, "the version on trial is not yet what a restart serves"
    for version, shown in ((second, text), (first, back)):
        described = [line for line in shown.splitlines() if line.startswith(f'model_info{{model_name="{NAME}"')]
        assert [f'model_version="{version}"' in line for line in described] == [True]
    assert f'model_reloads_total{{model_name="{NAME}",outcome="swapped"}} 2.0' in back
    assert f'model_alias_version{{model_name="{NAME}"}} {float(first)}' in back


def test_settled_version_is_what_a_restart_serves(registry: Registry, first: str, second: str, tmp_path: Path) -> None:
    registry.point(first)
    with serving(settings_of(registry, tmp_path)) as client:
        registry.point(second)
        until(lambda: serves(client, second))
        assert model_of(client)["following"]["previous"] is None

    with serving(settings_of(registry, tmp_path, mlflow_tracking_uri=NOWHERE)) as client:
        time.sleep(0.3)  # a few looks at an MLflow that does not answer
        known = model_of(client)
    assert (known["version"], known["origin"]) == (second, "cache")
    assert (known["following"]["alias_version"], known["following"]["state"]) == ("", "settled")


@pytest.fixture(scope="module")
def follower(
    registry: Registry, first: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, str]]:
    """Client of a service that serves the first version, whatever the alias names; and this version."""
    registry.point(first)
    with serving(settings_of(registry, tmp_path_factory.mktemp("follower"))) as client:
        yield client, first


@pytest.mark.parametrize(
    ("fault", "reason", "cause"),
    [
        ("damaged", "load", "is damaged or not a model file of XGBoost"),
        ("classes", "interface", "its classes are malignant, gone, the champion's are malignant, benign"),
        ("digest", "digest", f"but {'0' * 64} was registered"),
    ],
)
def test_broken_version_is_refused(
    registry: Registry,
    saved: Path,
    follower: tuple[TestClient, str],
    tmp_path: Path,
    fault: str,
    reason: str,
    cause: str,
) -> None:
    client, served = follower
    folder = varied(saved, tmp_path / "model")
    if fault == "damaged":
        (folder / MODEL_FILE).write_bytes((folder / MODEL_FILE).read_bytes()[:-100])
    elif fault == "classes":
        write_contract(folder, classes=["malignant", "gone"])
    version = registry.register(folder, **({"sha256": "0" * 64} if fault == "digest" else {}))

    registry.point(version)
    until(lambda: model_of(client)["following"]["refused"][-1:] and refused(client)["version"] == version)

    assert refused(client)["reason"] == reason
    assert cause in refused(client)["cause"]
    time.sleep(0.3)  # it is not tried again
    assert serves(client, served)
    text = client.get("/metrics").text
    assert f'model_reload_refused_info{{model_name="{NAME}",model_version="{version}",reason="{reason}"' in text
    registry.point(served)
    until(lambda: f'model_reload_refused_info{{model_name="{NAME}"' not in client.get("/metrics").text)


def refused(client: TestClient) -> dict[str, Any]:
    """Return the last refusal."""
    found: dict[str, Any] = model_of(client)["following"]["refused"][-1]
    return found


def test_incomplete_version_is_tried_again_later(
    registry: Registry, saved: Path, follower: tuple[TestClient, str], tmp_path: Path
) -> None:
    """Its files may still be on their way, so it is not remembered as refused."""
    client, served = follower
    folder = varied(saved, tmp_path / "model")
    (folder / MODEL_FILE).unlink()

    version = registry.register(folder)
    with logged() as lines:
        registry.point(version)
        shown = f'model_version="{version}",reason="unavailable"'
        until(lambda: shown in client.get("/metrics").text)
        registry.point(served)

    assert not [each for each in model_of(client)["following"]["refused"] if each["version"] == version]
    assert any(f"its folder does not contain {MODEL_FILE}" in line["message"] for line in lines)


def test_version_that_fails_on_requests_is_rolled_back_and_not_served_again(
    registry: Registry, first: str, saved: Path, rows: Matrix, tmp_path: Path
) -> None:
    model, row = failing(rows)
    version = registry.register(varied(saved, tmp_path / "model", model))
    registry.point(first)
    with serving(settings_of(registry, tmp_path, follow_watch_seconds=600)) as client:
        registry.point(version)
        until(lambda: serves(client, version, "watching"))
        for _ in range(25):
            client.post("/predict", json=body(rows, row))
        until(lambda: serves(client, first))

        assert client.post("/predict", json=body(rows, row)).status_code == 200
        assert (refused(client)["version"], refused(client)["reason"]) == (version, "errors")
        assert "the model failed on 2" in refused(client)["cause"]
        assert f'model_reloads_total{{model_name="{NAME}",outcome="rolled_back"}} 1.0' in client.get("/metrics").text

    with serving(settings_of(registry, tmp_path)) as client:
        until(lambda: model_of(client)["following"]["alias_version"] == version)
        time.sleep(0.3)
        assert serves(client, first)
        assert refused(client)["version"] == version


def test_version_whose_trial_the_container_did_not_survive_is_refused(
    registry: Registry, first: str, second: str, tmp_path: Path
) -> None:
    registry.point(first)
    with serving(settings_of(registry, tmp_path, follow_watch_seconds=600)) as client:
        registry.point(second)
        until(lambda: serves(client, second, "watching"))

    with serving(settings_of(registry, tmp_path)) as client:
        until(lambda: model_of(client)["following"]["alias_version"] == second)
        assert serves(client, first)
        assert (refused(client)["version"], refused(client)["reason"]) == (second, "restart")


def test_pod_returns_from_a_version_that_another_pod_refuses(
    registry: Registry, first: str, second: str, tmp_path: Path
) -> None:
    registry.point(first)
    refusals: list[Refusal] = []
    with serving(settings_of(registry, tmp_path)):
        copy = read_copy((tmp_path / "cache" / RECORD).read_bytes())
    assert copy is not None
    with offering(copy, tmp_path / "cache" / f"{NAME}-{first}", refusals) as port:
        named = {"peers_host": "localhost", "peers_port": port, "revision": "rs1", "follow_watch_seconds": 600}
        with serving(settings_of(registry, tmp_path / "new", **named)) as client:
            assert model_of(client)["origin"] == "peer"
            registry.point(second)
            until(lambda: serves(client, second, "watching"))
            refusals.append(Refusal(second, "", "errors", "it failed there", "2026-01-01T00:00:00+00:00", "rs0"))
            time.sleep(0.4)
            assert serves(client, second, "watching"), "pods of an earlier rollout decide for themselves"
            refusals.append(Refusal(second, "", "errors", "it failed there", "2026-01-01T00:00:00+00:00", "rs1"))
            until(lambda: serves(client, first))
            assert refused(client)["cause"] == "it failed there"


@contextmanager
def offering(copy: Copy, folder: Path, refusals: list[Refusal]) -> Iterator[int]:
    """Offer a copy and refusals as another pod does, and yield the port."""
    port = free_port()
    server = PeerServer(port, "", lambda: Offer(copy, folder, json.dumps([vars(each) for each in refusals]).encode()))
    server.start()
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()


def test_model_whose_loading_ends_the_process_is_refused(saved: Path, tmp_path: Path) -> None:
    found: list[Exception] = []
    settings = settings_for(saved.as_uri(), tmp_path)

    def attempt() -> None:
        try:
            try_loading(settings, saved / MODEL_FILE, Provenance(NAME, "2", URI))
        except (RefusedError, LoadError) as error:
            found.append(error)

    others = trials()  # of services that have ended
    trial = threading.Thread(target=attempt)
    trial.start()
    until(lambda: trials() - others)
    os.kill((trials() - others).pop(), signal.SIGSEGV)
    trial.join(30)

    (error,) = found
    assert isinstance(error, RefusedError)
    assert (error.reason, "SIGSEGV" in str(error)) == ("crash", True)


def trials() -> set[int]:
    """Return the processes that try a model."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"\nPPid:\t{os.getpid()}\n" in (folder / "status").read_text()
            if ours and b"app.following.child" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def test_model_that_does_not_fit_next_to_the_served_one_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(str(2**20))

    with pytest.raises(RefusedError, match=r"set resources\.limits\.memory to \d+Mi or more") as refusal:
        try_loading(settings_for(saved.as_uri(), tmp_path), saved / MODEL_FILE, Provenance(NAME, "2", URI))

    assert refusal.value.reason == "memory"


@pytest.mark.long
def test_400_damaged_files_end_no_service(saved: Path, tmp_path: Path) -> None:
    """The gate refuses a file, or the file is a model; this process survives all of them."""
    content = (saved / MODEL_FILE).read_bytes()
    folder = varied(saved, tmp_path / "model")
    settings = settings_for(saved.as_uri(), tmp_path)
    reasons: dict[str, int] = {}
    for number in range(400):
        (folder / MODEL_FILE).write_bytes(mutated(content, number))
        try:
            try_loading(settings, folder / MODEL_FILE, Provenance(NAME, "2", URI))
            reason = "accepted"
        except RefusedError as error:
            reason = error.reason
        reasons[reason] = reasons.get(reason, 0) + 1
    print(reasons)
    assert reasons["load"] > 0


def test_refusals_are_of_one_replica_set_and_of_one_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = Refusals(tmp_path, "rs1")
    refusals.add(refusals.new("2", "ab", "load", "x" * 1000))
    refusals.start_trial("3", "cd")

    assert Refusals(tmp_path, "rs2").refused == ()
    again = Refusals(tmp_path, "rs1")
    assert [(each.version, each.reason) for each in again.refused] == [("2", "load"), ("3", "restart")]
    assert again.of("9", "ab") == again.of("2")

    again.start_trial("4", "ef")
    monkeypatch.setattr("socket.gethostname", lambda: "a-pod-that-shares-the-volume")
    assert Refusals(tmp_path, "rs1").of("4") is None
