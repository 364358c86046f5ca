"""What the metrics cost is taken within a round, and too much of it is said by the status."""

import subprocess
import sys

import pytest

from tests.bench.overhead import summary, too_much
from tests.cluster.cache import ROOT


def test_ratios_are_taken_within_a_round() -> None:
    assert summary([(110, 100), (240, 200), (330, 300)]) == {"on_us": 240, "off_us": 200, "more": 0.1}


@pytest.mark.parametrize(("one", "hundred", "expected"), [(0.1, 0.5, False), (0.21, 0.0, True)])
def test_one_row_decides(one: float, hundred: float, expected: bool) -> None:
    assert too_much({"loads": {"1 x 16": {"more": one}, "100 x 16": {"more": hundred}}}) == expected


@pytest.mark.long
def test_the_service_is_measured_beside_itself() -> None:
    arguments = ["metrics", "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert "## What the metrics cost" in done.stdout, done.stdout + done.stderr
    assert "| 100 x 16 |" in done.stdout
