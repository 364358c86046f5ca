"""Warnings about text that looks like numbers, and about whole numbers that lose digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.dataset import DataSpec, load

ROWS = 40


def warnings(folder: Path, caplog: pytest.LogCaptureFixture, values: list[Any], **spec: object) -> list[str]:
    """Return the warnings about a column x of a Parquet file."""
    pq.write_table(pa.table({"x": values, "y": [i * 0.5 for i in range(len(values))]}), folder / "a.parquet")
    caplog.clear()
    load(DataSpec.model_validate({"source": str(folder / "a.parquet"), "target": "y", **spec}))
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize(
    "text",
    ["100,{:03d}.37", "${},000", "{}%", "{} %", "{}", "{},5", "{} €", "-{}.5", "1.{:03d},00", "({})", "1'{:03d}"],
)
def test_numbers_as_text_are_named_with_the_options(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    values = [None, *(text.format(i) for i in range(ROWS))]

    (found,) = warnings(tmp_path, caplog, values)

    assert found.startswith(f"column x contains numbers as text, such as {values[1]!r} in row 2; its {ROWS} values ")
    assert "--drop" in found
    assert warnings(tmp_path, caplog, values, categorical=("x",)) == [], "confirmed"


@pytest.mark.parametrize(
    "values",
    [
        ["red", "green", "blue", "1,000"] * 10,
        ["<20", "20-30", "30-40", ">40"] * 10,
        ["A1", "B2", "12:30"] * 10,
    ],
    ids=lambda value: value[0],
)
def test_other_text_is_not_mistaken_for_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: list[str]
) -> None:
    assert warnings(tmp_path, caplog, values) == []


def test_csv_with_thousands_separators_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f'"{i},001.37",{i * 0.5}\n' for i in range(100, 130))
    (tmp_path / "a.csv").write_text(f"price,y\n{rows}")

    load(DataSpec(source=str(tmp_path / "a.csv"), target="y"))

    assert "column price contains numbers as text, such as '100,001.37' in row 1; its 30 values become" in caplog.text


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2**24, 2**24 + 1, 2**24 + 2], "10 of {} values lose digits as 32-bit numbers, such as 16777217 in row 3"),
        ([None, -(2**24) - 1, 5], "10 of {} values lose digits as 32-bit numbers, such as -16777217 in row 2"),
        (
            [2**63 - 1, 2**62, 2**62 + 1],
            "20 of {} values lose digits as 32-bit numbers, such as 9223372036854775807 in",
        ),
        ([2.0**24 + 1, 0.1], "10 of {} values lose digits as 32-bit numbers, such as 16777217 in row 1"),
    ],
)
def test_whole_numbers_that_lose_digits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: list[Any], found: str
) -> None:
    (text,) = warnings(tmp_path, caplog, values * 10)

    assert text.startswith(f"column x: {found.format(10 * len(values))}")
    assert "--drop" in text


@pytest.mark.parametrize(
    "values",
    [[2**24, 2**30, -(2**40)], [0.1, 1e9 + 0.5, np.nan], [True, False, None]],
    ids=["powers", "floats", "bools"],
)
def test_numbers_that_keep_their_digits_are_not_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: list[Any]
) -> None:
    assert warnings(tmp_path, caplog, values * 10) == []
