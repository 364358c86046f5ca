"""Environments of models: real installations from a folder of wheels, and the sentence for each failure."""

import argparse
import base64
import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.worker import install


def wheel(folder: Path, name: str, version: str, requires: str = "") -> Path:
    """Make a wheel with one module that contains its version."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for inside, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{inside},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return path


@pytest.fixture(autouse=True)
def without_settings_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "alpha", "1.0", "beta>=2")
    wheel(folder, "beta", "2.1")
    return folder


def run(tmp_path: Path, requirements: str, *more: str) -> tuple[int, str]:
    """Run the program, and return its exit status and the termination message."""
    (tmp_path / "requirements.txt").write_text(requirements)
    message = tmp_path / "message"
    status = install.main(
        [
            *("--requirements", str(tmp_path / "requirements.txt"), "--environments", str(tmp_path / "environments")),
            *("--link", str(tmp_path / "environment"), "--message", str(message), *more),
        ]
    )
    return status, message.read_text() if message.exists() else ""


def test_environment_has_the_requirements_and_what_they_need(tmp_path: Path, wheels: Path) -> None:
    status, message = run(tmp_path, "alpha==1.0\n", "--wheelhouse", str(wheels))

    assert (status, message) == (0, "")
    python = tmp_path / "environment" / "bin" / "python3"
    program = "import alpha, beta, sys; print(alpha.VERSION, beta.VERSION, sys.prefix != sys.base_prefix)"
    assert subprocess.check_output([python, "-c", program], text=True).split() == ["1.0", "2.1", "True"]


def test_complete_environment_is_used_again(tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "beta\n", "--wheelhouse", str(wheels))
    first = (tmp_path / "environment").resolve()
    run(tmp_path, "beta\n", "--wheelhouse", "/nowhere")

    assert (tmp_path / "environment").resolve() == first
    assert "is complete already" in capsys.readouterr().out


def test_pods_that_race_for_one_volume_install_once(tmp_path: Path, wheels: Path) -> None:
    """Each pod is a process, because a lock belongs to a process."""
    (tmp_path / "requirements.txt").write_text("alpha\n")

    def pod(number: int) -> str:
        command: list[str | Path] = [
            *(sys.executable, "-m", "app.worker.install", "--requirements", tmp_path / "requirements.txt"),
            *("--environments", tmp_path / "shared", "--link", tmp_path / f"link-{number}", "--wheelhouse", wheels),
        ]
        return str(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    with ThreadPoolExecutor(3) as pods:
        outputs = list(pods.map(pod, range(3)))

    assert sum("installed" in output for output in outputs) == 1
    assert len({(tmp_path / f"link-{number}").resolve() for number in range(3)}) == 1
    assert [path.name for path in (tmp_path / "shared").iterdir() if "partial" in path.name] == []


def test_failed_installation_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    status, _ = run(tmp_path, "gamma==3\n", "--wheelhouse", str(wheels))

    assert status == 1
    assert [path.suffix for path in (tmp_path / "environments").iterdir()] == [".lock"]
    assert not (tmp_path / "environment").exists()


def test_unknown_package_is_named_with_the_place_and_a_remedy(tmp_path: Path, wheels: Path) -> None:
    _, message = run(tmp_path, "gamma==3\n", "--wheelhouse", str(wheels))

    assert message.startswith("Cannot make the model's environment: gamma==3 is not available as a wheel for Python ")
    assert f"at {wheels}, which has no version" in message
    assert "model.environment.allowSource=true" in message


def test_source_package_is_refused(tmp_path: Path, wheels: Path) -> None:
    (wheels / "delta-1.0.tar.gz").write_bytes(b"")

    assert "delta is not available as a wheel" in run(tmp_path, "delta\n", "--wheelhouse", str(wheels))[1]


def test_changed_wheel_is_refused_by_its_hash(tmp_path: Path, wheels: Path) -> None:
    lock = f"beta==2.1 --hash=sha256:{'0' * 64}\n"

    _, message = run(tmp_path, lock, "--wheelhouse", str(wheels), "--require-hashes")

    assert "beta==2.1" in message
    assert "does not have the hash of the lock" in message


def test_lock_without_hashes_is_refused(tmp_path: Path, wheels: Path) -> None:
    _, message = run(tmp_path, "beta==2.1\n", "--wheelhouse", str(wheels), "--require-hashes")

    assert "the lock does not contain a hash for each package" in message


def test_index_that_is_down_is_named(tmp_path: Path) -> None:
    _, message = run(tmp_path, "beta\n", "--index", "http://127.0.0.1:9/simple")

    assert "the index http://127.0.0.1:9/simple cannot be reached (Connection refused)" in message
    assert "model.environment.index.url" in message


def test_credentials_are_in_a_file_for_pip_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_USERNAME", "me")
    monkeypatch.setenv("INDEX_PASSWORD", "hidden")

    found = install._credentials("https://index.example/simple", tmp_path)

    assert Path(found["NETRC"]).read_text() == "machine index.example login me password hidden\n"
    assert Path(found["NETRC"]).stat().st_mode & 0o077 == 0


def test_time_limit_names_the_value(tmp_path: Path, wheels: Path) -> None:
    _, message = run(tmp_path, "alpha\n", "--wheelhouse", str(wheels), "--seconds", "0.01")

    assert "raise model.environment.timeoutSeconds" in message


def test_unexpected_failure_shows_pips_last_error() -> None:
    options = argparse.Namespace(wheelhouse=None, index="")

    assert install.reason(["x", "ERROR: Something new"], options).startswith("ERROR: Something new (https://pypi.org/")
