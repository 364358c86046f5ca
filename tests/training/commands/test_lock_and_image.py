"""`python -m training lock` and `image`: the packages of a model with hashes, and an image that contains them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from app.model.pyfunc import check
from tests.training.conftest import Result, Server
from tests.training.own_python import models
from tools.bench.environments import interpreter, uv
from training.__main__ import main
from training.packages import uv as calls

ROOT = Path(__file__).parents[3]
PINNED = "docker.io/library/python:3.11-slim@sha256:" + "a" * 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder with the metadata of a model that was logged with Python 3.11."""
    folder = shutil.copytree(models() / "labels", tmp_path / "model")
    (folder / "requirements.txt").write_text("mlflow==2.22.5\nscikit-learn==1.4.2\nnumpy==1.26.4\n")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer


def test_lock_installs_with_hashes_for_the_python_of_the_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "churn.lock"

    assert main(["lock", model.as_uri(), f"--output={written}"]) == 0

    answer = said(capsys)
    assert answer["values"] == {"model": {"environment": {"python": "3.11"}}}
    assert answer["packages"].items() >= {"scikit-learn": "1.4.2", "numpy": "1.26.4", "mlflow-skinny": "2.22.5"}.items()
    assert "mlflow" not in answer["packages"]  # its server is not needed
    assert answer["packages"]["pandas"].startswith("2.")  # MLflow 2.22 does not accept pandas 3
    text = written.read_text()
    assert text.startswith(f"# {model.as_uri()}: Python 3.11, x86_64\n")
    for name, version in answer["packages"].items():
        assert re.search(rf"^{re.escape(name)}=={re.escape(version)}.*\\\n    --hash=sha256:", text, re.MULTILINE), name
    environment = tmp_path / "environment"
    subprocess.run([uv(), "venv", "--quiet", "--python", interpreter("3.11"), environment], check=True)
    python = environment / "bin" / "python"
    install: list[str | Path] = [
        uv(),
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--require-hashes",
        "--no-deps",
        "-r",
        written,
    ]
    subprocess.run(install, check=True)
    subprocess.run([uv(), "pip", "check", "--quiet", "--python", python], check=True)

    written.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, text))
    refused = subprocess.run([*install, "--reinstall", "--no-cache"], capture_output=True, text=True, check=False)
    assert "Hash mismatch" in refused.stderr


def test_lock_is_the_same_each_time_and_for_both_architectures(model: Path, tmp_path: Path) -> None:
    locks = []
    for name, architectures in (("one", "x86_64"), ("two", "x86_64"), ("both", "x86_64,aarch64")):
        options = [f"--output={tmp_path / name}", f"--architectures={architectures}"]
        assert main(["lock", model.as_uri(), *options]) == 0
        locks.append((tmp_path / name).read_text().splitlines()[1:])

    assert locks[0] == locks[1] == locks[2]


def test_lock_of_a_registered_version_needs_only_its_metadata(
    server: Server, model: Path, tmp_path: Path, command: Callable[..., Result]
) -> None:
    mlflow.set_tracking_uri(server.uri)
    logged = mlflow.initialize_logged_model(name="locked")
    server.client.log_model_artifacts(logged.model_id, str(model))
    server.client.finalize_logged_model(logged.model_id, "READY")
    server.client.create_registered_model("locked")
    server.client.create_model_version("locked", f"models:/{logged.model_id}", model_id=logged.model_id)
    (server.model_folder("locked", "1") / "model.pkl").unlink()

    found = command(
        "lock", "models:/locked/1", f"--mlflow-tracking-uri={server.uri}", f"--output={tmp_path}/model.lock"
    )

    assert found.code == 0, found.messages
    assert found.published["packages"]["scikit-learn"] == "1.4.2"


@pytest.mark.parametrize(
    ("requirements", "options", "code", "problem"),
    [
        ("nosuchpackage-of-nobody==9", [], 2, "The index has no package nosuchpackage-of-nobody"),
        ("scikit-learn==99.1", [], 2, "The requirements cannot be met: Because there is no version of scikit-learn==9"),
        ("scikit-learn==1.4.2\nnumpy==2.9", [], 2, "numpy==2.9"),
        ("docopt==0.6.2", [], 2, "docopt==0.6.2 has no wheel for this Python and platform"),
        ("numpy==1.26.4", ["--python-version=3.13"], 2, "numpy==1.26.4 has no wheel for this Python and platform"),
        ("not ! a requirement", [], 2, "A line of the model's requirements.txt is not a requirement"),
        (None, [], 2, "has no requirements.txt"),
        ("numpy==1.26.4", ["--architectures=riscv"], 2, "--architectures (TRAINING_ARCHITECTURES"),
        ("numpy==1.26.4", ["--output=/nowhere/model.lock"], 2, "/nowhere/model.lock cannot be written"),
    ],
)
def test_lock_that_cannot_be_written_has_a_reason(
    requirements: str | None,
    options: list[str],
    code: int,
    problem: str,
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (model / "requirements.txt").unlink()
    if requirements is not None:
        (model / "requirements.txt").write_text(requirements)

    assert main(["lock", model.as_uri(), f"--output={tmp_path}/model.lock", *options]) == code

    assert problem in caplog.text


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("models:/churn@champion", "an alias is not accepted"),
        ("file:///nowhere", "has no MLmodel"),
        ("models:/churn/1", "--mlflow-tracking-uri (MLFLOW_TRACKING_URI): set the address"),
    ],
)
def test_model_that_is_not_found_is_named(uri: str, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["lock", uri]) == 2

    assert problem in caplog.text


def test_unreachable_index_is_exit_code_1(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {
        "UV_DEFAULT_INDEX": "http://name:secret@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    assert main(["lock", model.as_uri(), f"--output={tmp_path}/model.lock"]) == 1

    assert "The package index cannot be reached (" in caplog.text
    assert "http://127.0.0.1:9/simple/" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "code", "problem"),
    [
        (
            "error: Failed to fetch: x\n  cause: HTTP status client error (401 Unauthorized) for url (x)",
            2,
            "credentials",
        ),
        ("error: No interpreter found for Python 3.9 in managed installations or search path", 2, "Python 3.9 was not"),
        ("error: failed to write\n  cause: No space left on device (os error 28)", 2, "cannot be written"),
        ("error: something new", 2, "uv failed: something new"),
    ],
)
def test_failures_of_uv_are_sentences(text: str, code: int, problem: str) -> None:
    found = calls.failure(text)

    assert found.exit_code == code
    assert problem in str(found)


def test_image_has_a_dockerfile_a_lock_and_the_values(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "image"
    options = ["--image=registry.example:5000/team/churn-python:7", f"--output={folder}"]

    assert main(["image", model.as_uri(), *options, f"--base={PINNED}"]) == 0

    assert said(capsys)["files"] == sorted(each.name for each in folder.iterdir())
    values = yaml.safe_load((folder / "values.yaml").read_text())
    image = {"registry": "registry.example:5000", "repository": "team/churn-python", "tag": "7"}
    assert values == {
        "model": {
            "uri": model.as_uri(),
            "sha256": check(model).sha256,
            "flavor": "pyfunc",
            "environment": {"python": "3.11", "install": False, "image": image},
        }
    }
    assert "scikit-learn==1.4.2" in (folder / "requirements.lock").read_text()
    dockerfile = (folder / "Dockerfile").read_text()
    assert f"ARG PYTHON_IMAGE={PINNED}\n" in dockerfile
    assert "--require-hashes --only-binary :all:" in dockerfile
    assert dockerfile.count("FROM ${PYTHON_IMAGE}") == 2
    assert "USER 10001:10001" in dockerfile
    hadolint: list[str | Path] = [
        Path(sys.executable).with_name("hadolint"),
        "--config",
        ROOT / ".hadolint.yaml",
        folder / "Dockerfile",
    ]
    linted = subprocess.run(hadolint, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    assert "is not pinned" not in caplog.text

    assert main(["image", model.as_uri(), *options]) == 0
    assert "docker.io/library/python:3.11-slim is not pinned: give --base" in caplog.text


@pytest.mark.parametrize("image", ["churn", "registry.example/churn", "Registry/churn:7", "registry.example/churn:"])
def test_reference_of_an_image_is_complete(image: str, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["image", model.as_uri(), f"--image={image}"]) == 2

    assert "--image (TRAINING_IMAGE): must be <registry>/<repository>:<tag>" in caplog.text
