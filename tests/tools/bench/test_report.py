"""Tests that the report matches the result, and that the committed files are up to date."""

import json
from typing import Any

import pytest

from tools.bench.entries import ENTRIES
from tools.bench.report import DOCUMENT, README, RESULT, document, short, with_table


@pytest.fixture
def result() -> Any:
    return json.loads(RESULT.read_text())


def test_document_matches_the_result(result: Any) -> None:
    assert DOCUMENT.read_text() == document(result), "run python -m tools.bench report"


def test_readme_matches_the_result(result: Any) -> None:
    readme = README.read_text()
    assert readme == with_table(readme, short(result)), "run python -m tools.bench report"


def test_every_entry_is_measured_or_has_a_reason(result: Any) -> None:
    assert set(result["entries"]) == {entry.name for entry in ENTRIES}
    for model in result["models"].values():
        for name, entry in result["entries"].items():
            assert (name in model["start"]) or entry["missing"], name


def test_missing_rival_is_listed_with_the_reason(result: Any) -> None:
    result["entries"]["ray"]["missing"] = "It cannot be installed."
    for text in (document(result), short(result)):
        assert "Not measured: ray. It cannot be installed." in text


def test_noisy_machine_is_reported(result: Any) -> None:
    assert "The machine was not idle (load 2.50)" in short(result | {"load_before": 2.5})
    assert "The machine was idle" in short(result | {"load_before": 0.1})


def test_failed_requests_are_reported(result: Any) -> None:
    result["models"]["30 x 100"]["loads"]["1 x 16"]["servers"]["bentoml"]["failed"] = 7.0
    assert ", 7 failed |" in document(result)


def test_readme_requires_markers_for_the_table() -> None:
    with pytest.raises(ValueError, match="has no place for the table"):
        with_table("# A README\n", "| a |\n")


def test_overhead_is_a_section_once_measured(result: Any) -> None:
    loads = {"1 x 1": {"on_us": 279.4, "off_us": 250.0, "more": 0.118}}
    measured = {"date": "2026-11-24", "rounds": 3, "seconds": 3, "loads": loads}

    assert "| 1 x 1 | 279 | 250 | 12% |" in document(result | {"metrics": measured})
