"""API key authentication: guarded paths, rotation of keys, and unusable keys."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from app.http import keys
from app.tools import check
from tests.app.harness import SERVICE, audited, listening, logged, process, serving, settings_for
from tools.loopback import answers, free_port, until

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}
BODY = {"instances": [ROW]}
FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
GUARDED = [
    ("POST", "/predict"),
    ("POST", "/explain"),
    ("GET", "/model"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
]
OPEN = ["/health", "/health/live", "/health/ready", "/metrics", "/", "/docs", "/pages/page.js"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def mount(folder: Path, **found: str) -> None:
    """Write the files of a Secret like the kubelet, which replaces all of them at once by one symbolic link."""
    folder.mkdir(exist_ok=True)
    old = (folder / "..data").resolve() if (folder / "..data").exists() else None
    data = folder / f"..{len(list(folder.iterdir()))}_{len(found)}"
    data.mkdir()
    for name, key in found.items():
        (data / name).write_text(key)
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for name in found:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for path in folder.iterdir():
        if not path.name.startswith("..") and path.name not in found:
            path.unlink()
    if old:
        shutil.rmtree(old)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mounted Secret with one key of the client web, which ends with a newline."""
    mount(tmp_path / "keys", web=FIRST + "\n")
    return tmp_path / "keys"


@pytest.fixture
def guarded(saved: Path, folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serving(settings_for(saved.as_uri(), tmp_path, api_keys_dir=folder)) as client:
        yield client


def status(client: TestClient, key: str) -> int:
    return client.post("/predict", json=BODY, headers=bearer(key)).status_code


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", f"Basic {FIRST}", FIRST, f"Bearer {FIRST[:-1]}", f"Bearer {FIRST}x"]
)
def test_request_without_a_valid_key_returns_401(
    guarded: TestClient, method: str, path: str, header: str | None
) -> None:
    answer = guarded.request(method, path, json=BODY, headers={} if header is None else {"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert answer.json() == {
        "type": "urn:model-service:unauthorized",
        "title": "Unauthorized",
        "status": 401,
        "detail": "A valid API key is required; send it as Authorization: Bearer <key>.",
        "request_id": answer.json()["request_id"],
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_valid_key_gives_access_to_everything(guarded: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {FIRST}"}
    found = [guarded.request(*each, json=BODY, headers=headers).status_code for each in GUARDED]

    assert found == [200, 200, 200, 200, 404]


@pytest.mark.parametrize("path", OPEN)
def test_kubernetes_prometheus_and_pages_need_no_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/health/",
        "/metrics/",
        "//metrics",
        "/metrics;x",
        "/health%2Flive/x",
        "/METRICS",
        "/pages/",
        "/pages/index.html",
        "/pages/../model",
        "/docs/",
    ],
)
def test_paths_similar_to_open_paths_are_guarded(guarded: TestClient, path: str) -> None:
    assert guarded.get(f"http://testserver{path}").status_code == 401


def test_open_paths_include_the_root_path(saved: Path, folder: Path, tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        settings = settings_for(saved.as_uri(), tmp_path, api_keys_dir=folder, root_path="/churn")
        async with listening(settings) as here:
            return [(await here.ask("GET", path)).status for path in ("/health/live", "/model")]

    assert asyncio.run(scenario()) == [200, 401]


def test_body_is_not_read_without_a_valid_key(saved: Path, folder: Path, tmp_path: Path) -> None:
    async def scenario() -> int:
        async with listening(settings_for(saved.as_uri(), tmp_path, api_keys_dir=folder)) as here:
            async with asyncio.timeout(5):
                return (await here.ask("POST", "/predict", b"{", announced=500_000)).status

    assert asyncio.run(scenario()) == 401


def test_keys_are_rotated_without_a_restart(guarded: TestClient, folder: Path) -> None:
    mount(folder, web=FIRST, batch=SECOND)
    until(lambda: status(guarded, SECOND) == 200)
    assert status(guarded, FIRST) == 200

    mount(folder, batch=SECOND)
    until(lambda: status(guarded, FIRST) == 401)
    assert status(guarded, SECOND) == 200


def test_last_key_can_be_removed(guarded: TestClient, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    mount(folder)
    until(lambda: status(guarded, FIRST) == 401)
    mount(folder, web="short")
    until(lambda: status(guarded, "short") != 401 or "API keys: web must have 16 to 1024 characters" in caplog.messages)

    assert status(guarded, "short") == 401
    assert "API keys: the folder has no usable key; all requests are rejected" in caplog.messages
    mount(folder, web=SECOND)
    until(lambda: status(guarded, SECOND) == 200)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about keys in the log."""
    return [each.getMessage() for each in caplog.records if (each.name, each.levelname) == (keys.__name__, "WARNING")]


def test_unreadable_folder_keeps_the_keys(guarded: TestClient, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.rename(folder.with_name("gone"))

    until(lambda: status(guarded, FIRST) == 200 and warned(caplog))
    assert status(guarded, SECOND) == 401
    assert warned(caplog) == [
        "API keys: the folder cannot be read (No such file or directory); the previous keys stay valid"
    ]


def test_unusable_keys_do_not_affect_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = {"short": "x" * 15, "long": "x" * 1025, "blank": f"{FIRST} {SECOND}", "umlaut": "schlüssel-0123456789"}
    mount(tmp_path / "keys", web=FIRST, edge="x" * 16, **broken)

    known = keys.Keys(tmp_path / "keys")

    names = {key: known.caller(key.encode()) for key in (FIRST, "x" * 16, *broken.values(), "")}
    assert names == {FIRST: "web", "x" * 16: "edge"} | dict.fromkeys((*broken.values(), ""))
    assert warned(caplog) == [
        "API keys: blank contains a blank or a character that is not printable ASCII",
        "API keys: long must have 16 to 1024 characters",
        "API keys: short must have 16 to 1024 characters",
        "API keys: umlaut contains a blank or a character that is not printable ASCII",
    ]


def test_folder_is_not_read_for_every_request(folder: Path) -> None:
    known = keys.Keys(folder)

    with audited("open") as paths:
        assert {known.caller(FIRST.encode()) for _ in range(100)} == {"web"}

    assert paths.count(str(folder / "web")) <= 1  # one refresh on a slow machine


def test_log_lines_contain_the_caller_and_never_a_key(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    coalescer = guarded.app.state.service.loaded.coalescer  # type: ignore[attr-defined]
    monkeypatch.setattr(coalescer, "predict", lambda *_: 1 / 0)
    with logged() as lines:
        assert status(guarded, FIRST) == 500
        assert [status(guarded, "a-wrong-key-0123456789") for _ in range(3)] == [401, 401, 401]

    audited = [(line["caller"], line["message"]) for line in lines if "refusals" in line]
    assert audited == [("testclient", "request refused: it has no valid API key")]
    assert [line.get("caller") for line in lines if line["level"] == "error"] == ["web"]
    text = json.dumps(lines)
    assert FIRST not in text
    assert "a-wrong-key" not in text


def test_rejections_are_counted_as_http_responses(guarded: TestClient) -> None:
    def count(path: str) -> float:
        text = guarded.get("/metrics").text
        head = f'http_server_requests_total{{app_name="model-service",method="POST",path="{path}",status_code="401"}} '
        return sum(float(line.removeprefix(head)) for line in text.splitlines() if line.startswith(head))

    before = count("/predict")
    assert status(guarded, SECOND) == 401

    assert count("/predict") == before + 1


def test_openapi_describes_which_paths_require_a_key(guarded: TestClient, client: TestClient) -> None:
    document = guarded.get("/openapi.json", headers=bearer(FIRST)).json()

    validate(document)
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    asked = {path: [each["security"] for each in item.values()] for path, item in document["paths"].items()}
    assert asked == {path: [[] if path in OPEN else [{"key": []}]] for path in document["paths"]}
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "the folder cannot be read (No such file or directory); mount the Secret there"),
        ({}, "the folder must contain at least one file with a usable key"),
        (
            {"web": " \n"},
            "the folder must contain at least one file with a usable key; web must have 16 to 1024 characters",
        ),
    ],
)
def test_service_without_any_key_does_not_start(
    saved: Path, tmp_path: Path, found: dict[str, str] | None, sentence: str
) -> None:
    if found is not None:
        mount(tmp_path / "keys", **found)
    with process(SERVICE, tmp_path / "log", **environment(saved, tmp_path)) as running:
        assert running.wait(30) == 1

    message = f"The service is misconfigured: MODEL_SERVICE_API_KEYS_DIR: {sentence}\n"
    assert (tmp_path / "termination").read_text() == message


def test_check_sends_a_key_from_the_same_folder(
    saved: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = environment(saved, tmp_path)
    url = f"http://127.0.0.1:{variables['MODEL_SERVICE_PORT']}"
    with process(SERVICE, tmp_path / "log", **variables):
        until(lambda: answers(f"{url}/health/ready"))
        assert check.main(["predict", url]) == 1
        assert "/model returns status 401: A valid API key is required" in capsys.readouterr().err

        monkeypatch.setenv("MODEL_SERVICE_API_KEYS_DIR", str(folder))
        assert check.main(["predict", url]) == 0
        monkeypatch.setenv("MODEL_SERVICE_API_KEYS_DIR", str(tmp_path / "nothing"))
        assert check.main(["predict", url]) == 1


def environment(saved: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_API_KEYS_DIR": str(tmp_path / "keys"),
        "MODEL_SERVICE_PORT": str(free_port()),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
    }
