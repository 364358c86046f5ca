"""The report says what the result holds, and the committed files are in step with it."""

import json
from typing import Any

import pytest

from tests.bench.entries import ENTRIES
from tests.bench.report import DOCUMENT, README, RESULT, document, short, with_table


@pytest.fixture
def result() -> Any:
    return json.loads(RESULT.read_text())


def test_document_is_in_step_with_the_result(result: Any) -> None:
    assert DOCUMENT.read_text() == document(result), "run python -m tests.bench report"


def test_readme_is_in_step_with_the_result(result: Any) -> None:
    readme = README.read_text()
    assert readme == with_table(readme, short(result)), "run python -m tests.bench report"


def test_every_entry_is_measured_or_excused(result: Any) -> None:
    assert set(result["entries"]) == {entry.name for entry in ENTRIES}
    for model in result["models"].values():
        for name, entry in result["entries"].items():
            assert (name in model["start"]) or entry["missing"], name


def test_who_is_missing_is_said_with_the_reason(result: Any) -> None:
    result["entries"]["ray"]["missing"] = "It cannot be installed."
    for text in (document(result), short(result)):
        assert "Not measured: ray. It cannot be installed." in text


def test_a_noisy_machine_is_said(result: Any) -> None:
    assert "only the ratios count" in short(result | {"load_before": 2.5})
    assert "The machine was quiet" in short(result | {"load_before": 0.1})


def test_failed_requests_are_said(result: Any) -> None:
    result["models"]["30 x 100"]["loads"]["1 x 16"]["servers"]["bentoml"]["failed"] = 7.0
    assert ", 7 failed |" in document(result)


def test_readme_needs_a_place_for_the_table() -> None:
    with pytest.raises(ValueError, match="has no place for the table"):
        with_table("# A README\n", "| a |\n")


def test_what_metrics_cost_is_a_chapter_once_it_was_measured(result: Any) -> None:
    loads = {"1 x 1": {"on_us": 279.4, "off_us": 250.0, "more": 0.118}}
    measured = {"date": "2026-11-24", "rounds": 3, "seconds": 3, "loads": loads}

    assert "| 1 x 1 | 279 | 250 | 12% |" in document(result | {"metrics": measured})
