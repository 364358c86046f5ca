"""Tests of the cache of built programs."""

import subprocess
from pathlib import Path

import pytest

from tools import charts
from tools.cluster import programs


def test_damaged_cache_is_rebuilt() -> None:
    folder = programs.tools()
    with (folder / "actionlint").open("r+b") as binary:
        binary.truncate(1000)
    programs._build.cache_clear()

    again = programs.tools()

    assert subprocess.run([again / "actionlint", "-version"], capture_output=True, check=False).returncode == 0


def test_launcher_runs_in_the_folder_of_its_caller_and_becomes_a_link(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    launcher = programs.launchers() / "promtool"
    assert not launcher.is_symlink()

    for _ in range(2):
        done = subprocess.run(
            [launcher, "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr
        assert "0 rules found" in done.stdout
        assert launcher.resolve().parent == programs.promtool()


def test_launcher_is_replaced_by_its_program_before_a_caller_with_a_time_limit_runs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "LAUNCHERS", tmp_path)
    monkeypatch.setenv("PATH", str(programs.launchers()))

    found = Path(charts.program("actionlint"))

    assert found == programs.tools() / "actionlint"
    assert found.is_file()
