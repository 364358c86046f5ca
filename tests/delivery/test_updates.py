"""Tests that Renovate finds every version outside the lock files."""

import re

import json5
import pytest

from tools.cluster.cache import ROOT

CONFIG = json5.loads((ROOT / "renovate.json5").read_text())
MANAGERS = CONFIG["customManagers"]


@pytest.mark.parametrize("manager", MANAGERS, ids=lambda manager: manager["description"])
def test_every_manager_finds_its_versions(manager: dict[str, list[str]]) -> None:
    for pattern in manager["managerFilePatterns"]:
        files = [path for path in ROOT.glob(pattern) if path.is_file()]
        assert files, pattern
        for path in files:
            assert any(
                # JavaScript and Python have a different syntax for named groups.
                re.search(match.replace("(?<", "(?P<"), path.read_text())
                for match in manager["matchStrings"]
            ), f"{path}: nothing found"


def test_actions_stay_pinned_by_commit() -> None:
    assert "helpers:pinGitHubActionDigests" in CONFIG["extends"]
