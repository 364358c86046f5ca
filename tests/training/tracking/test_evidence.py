"""The files of a run that show its code and packages."""

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from training.environment import LOCK, environment
from training.tracking.evidence import MOST_BYTES, collect, versions


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a work tree with a commit and an ignored file."""
    (tmp_path / ".gitignore").write_text(".env\n")
    (tmp_path / "fit.py").write_text("depth = 3\n")
    (tmp_path / ".env").write_text("password\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=first"]):
        git(tmp_path, *command)
    return tmp_path


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", "-C", tree, *identity, *arguments], capture_output=True, text=True, check=True).stdout


def diff_of(tree: Path, commit: str = "") -> str:
    here = environment(f"{commit or git(tree, 'rev-parse', 'HEAD').strip()}-dirty", 1)
    return collect(here, tree)["uncommitted.diff"].decode()


def test_changes_are_recorded_and_apply_to_the_commit(tree: Path, tmp_path: Path) -> None:
    (tree / "fit.py").write_text("depth = 4\n")
    (tree / "new.py").write_text("secret of an untracked file\n")
    (tree / "added.py").write_text("staged\n")
    git(tree, "add", "added.py")

    text = diff_of(tree)

    assert "-depth = 3\n+depth = 4\n" in text
    assert "+staged\n" in text
    assert "# Untracked file, whose content is not recorded: new.py\n" in text
    assert "secret" not in text
    (patch := tmp_path / "patch").write_text(text)
    git(tree, "stash", "--quiet")
    git(tree, "apply", str(patch))
    assert (tree / "fit.py").read_text() == "depth = 4\n"


def test_ignored_files_do_not_appear(tree: Path) -> None:
    (tree / "fit.py").write_text("depth = 4\n")
    (tree / ".env").write_text("password = changed\n")

    text = diff_of(tree)

    assert "password" not in text
    assert ".env" not in text


def test_long_diff_is_cut_with_a_sentence(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "fit.py").write_text("x = 'éé'\n" * 300_000)

    text = diff_of(tree)

    assert MOST_BYTES - 20 < len(text.encode()) < MOST_BYTES + 100
    assert text.endswith("+x = 'éé'\n# Cut: the changes are longer than 1,048,576 bytes.\n")
    assert "uncommitted.diff is cut after 1048576 bytes: commit large changes" in caplog.text


@pytest.mark.parametrize("place", ["without work tree", "without the commit"])
def test_unknown_changes_are_a_sentence(tree: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    text = diff_of(tree / "elsewhere" if place == "without work tree" else tree, "0" * 40)

    assert text == f"# The changes since commit {'0' * 40} are unknown: no work tree here contains them.\n"
    assert "its changes cannot be recorded: train from a commit" in caplog.text


def test_commit_has_no_diff_and_packages_have_versions_and_digests(tree: Path) -> None:
    here = environment(git(tree, "rev-parse", "HEAD").strip(), 1)

    files = collect(here, tree)

    assert set(files) == {"packages.txt", "uv.lock"}
    assert files["uv.lock"] == LOCK.read_bytes()
    lines = files["packages.txt"].decode().splitlines()
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+ sha256:[0-9a-f]{64}", line) for line in lines)
    found = versions(files["packages.txt"].decode())
    assert len(found) == len(lines)
    assert found["xgboost-cpu"].startswith(f"{version('xgboost-cpu')} (")


def test_changed_file_of_the_code_changes_its_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("training.environment.ROOT", tmp_path)
    for package in ("app", "training"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "fit.py").write_text("depth = 3\n")
    before = environment("", 1).code_sha256

    (tmp_path / "training" / "fit.py").write_text("depth = 4\n")

    lines = subprocess.run(
        ["sha256sum", "app/fit.py", "training/fit.py"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    digest = subprocess.run(["sha256sum"], input=lines, capture_output=True, check=True).stdout.decode().split()[0]
    assert before != digest == environment("", 1).code_sha256
