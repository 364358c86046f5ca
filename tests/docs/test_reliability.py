"""The page about reliability contains what the drills measured, and each of its rows is a drill."""

import json
from pathlib import Path

from tools.drills import DATA, PAGE, page

DRILLS = Path(__file__).parents[1] / "e2e" / "drills"


def test_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == page(json.loads(DATA.read_text()))


def test_each_result_is_that_of_a_drill() -> None:
    code = "".join(path.read_text() for path in DRILLS.glob("test_*.py"))

    names = [each["name"] for each in json.loads(DATA.read_text())]
    assert names
    assert [name for name in names if f'"{name}"' not in code] == []
