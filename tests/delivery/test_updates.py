"""Renovate finds each version that stands outside a lock file."""

import re

import json5
import pytest

from tests.cluster.cache import ROOT

CONFIG = json5.loads((ROOT / "renovate.json5").read_text())
MANAGERS = CONFIG["customManagers"]


@pytest.mark.parametrize("manager", MANAGERS, ids=lambda manager: manager["description"])
def test_each_hint_finds_its_versions(manager: dict[str, list[str]]) -> None:
    for pattern in manager["managerFilePatterns"]:
        files = [path for path in ROOT.glob(pattern) if path.is_file()]
        assert files, pattern
        for path in files:
            assert any(
                # JavaScript and Python write named groups differently.
                re.search(match.replace("(?<", "(?P<"), path.read_text())
                for match in manager["matchStrings"]
            ), f"{path}: nothing found"


def test_actions_stay_pinned_by_commit() -> None:
    assert "helpers:pinGitHubActionDigests" in CONFIG["extends"]
