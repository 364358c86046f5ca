"""The checks that the image, `helm test` and people run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import check
from tests.app.harness import MODEL, SERVICE, answers, free_port, process, until


@pytest.fixture(scope="module")
def url(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("check"), free_port()
    environment = {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_MODEL_NAME": MODEL,
        "MODEL_SERVICE_PORT": str(port),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(folder / "termination"),
    }
    with process(SERVICE, folder / "log", **environment):
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health/ready"))
        yield address


def test_predict_sends_the_models_own_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["predict", f"{url}/"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["model"]["name"] == MODEL
    assert len(answer["predictions"]) == 2


def test_ready_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["ready", url]) == 0

    assert json.loads(capsys.readouterr().out)["status"] == "ready"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/nothing", "{}/nothing/health/ready answers 404: Not Found\n"), ("/metrics?", "{}/metrics?/health/ready")],
)
def test_wrong_address_is_one_sentence(url: str, capsys: pytest.CaptureFixture[str], path: str, sentence: str) -> None:
    assert check.main(["ready", url + path]) == 1

    assert capsys.readouterr().err.startswith(sentence.format(url))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/health/ready cannot be reached: [Errno 111] Connection refused.\n"),
        ("file:///etc", "file:///etc/health/ready is no http:// or https:// address.\n"),
    ],
)
def test_unreachable_service_is_one_sentence(capsys: pytest.CaptureFixture[str], address: str, sentence: str) -> None:
    assert check.main(["ready", address]) == 1

    assert capsys.readouterr().err == sentence
