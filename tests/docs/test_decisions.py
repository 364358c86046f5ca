"""The pages of the decisions: one form, a complete index, and paths that exist."""

import re
from pathlib import Path

import pytest

from tools.cluster.cache import ROOT

DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))
FORM = re.compile(
    r"# (\d+)\. (.+)\n\nStatus: (accepted|superseded by \[\d+\]\(\S+\))\n\n"
    r"## Context\n\n.+\n\n## Decision\n\n.+\n\n## Consequences\n\n.+\n",
    re.DOTALL,
)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_decision_has_the_form_and_a_row_in_the_index(page: Path) -> None:
    found = FORM.fullmatch(page.read_text())
    assert found
    number, title, status = found.groups()

    assert int(page.name[:4]) == int(number)
    assert f"| {number} | [{title}]({page.name}) | {status} |" in (page.parent / "index.md").read_text()


def test_numbers_have_no_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_paths_in_decisions_exist(page: Path) -> None:
    paths = re.findall(r"`((?:app|charts|docs|tests|tools|training)/[\w./-]+)`", page.read_text())

    assert not [path for path in paths if not (ROOT / path).exists()]
