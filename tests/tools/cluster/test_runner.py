"""Tests that the project's commands find their programs on a runner of GitHub, and the whole as a long test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools.cluster.runner import SYSTEM_GO, environment, owned_by
from tools.cluster.cache import CACHE, ROOT
from tools.cluster.console import Failure, run
from tools.cluster.programs import find

EXEC = [str(ROOT / "tools" / "python"), "-m", "tools.cluster", "exec"]
RUNNER = 1001


def executed(env: dict[str, str], *command: str) -> str:
    """Return what a command prints that `exec` runs."""
    done = subprocess.run([*EXEC, *command], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_commands_find_the_go_of_the_job_and_not_that_of_the_system(tmp_path: Path) -> None:
    env = environment(tmp_path, CACHE)
    folders = executed(env, "printenv", "PATH").strip().split(os.pathsep)

    assert executed(env, "go", "version").startswith("go version go1.")
    assert (
        SYSTEM_GO in subprocess.run([tmp_path / "usr-bin" / "go"], capture_output=True, text=True, check=False).stderr
    )
    assert folders.index(str(tmp_path / "setup-go")) < folders.index(str(tmp_path / "usr-bin"))


@pytest.mark.parametrize("command", ["actionlint --version", "ct version", "helm-docs --help", "kubeconform -v"])
def test_linters_start_on_a_runner(tmp_path: Path, command: str) -> None:
    assert executed(environment(tmp_path, CACHE), *command.split())


def test_helm_of_the_leg_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", environment(tmp_path, CACHE)["PATH"])

    monkeypatch.setenv("HELM_VERSION", "v3.21.3")
    assert find("helm") == tmp_path / "usr-bin" / "helm"
    monkeypatch.setenv("HELM_VERSION", "v3.22.0")
    with pytest.raises(Failure, match=r"HELM_VERSION=v3\.22\.0, but the helm on PATH is v3\.21\.3"):
        find("helm")


@pytest.mark.long  # builds every linter, and installs the Python packages, in empty caches
def test_checks_of_a_pull_request_pass_on_a_runner(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone])
    env = environment(tmp_path / "runner")
    as_runner = ["setpriv", f"--reuid={RUNNER}", f"--regid={RUNNER}", "--clear-groups"] if os.geteuid() == 0 else []
    assert shutil.which("uv", path=env["PATH"]) is None

    with owned_by(RUNNER, tmp_path) if as_runner else owned_by(os.geteuid()):
        for verb in ("lint", "types", "charts", "delivery"):
            command = [*as_runner, "make", "--no-print-directory", verb]
            done = subprocess.run(
                command, cwd=clone, env=env, capture_output=True, text=True, timeout=5400, check=False
            )
            assert done.returncode == 0, f"make {verb}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
