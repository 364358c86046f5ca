"""The page about the training data, compared with pandas."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from training.data.dataset import load
from training.data.split import split
from training.fitting.pipeline import train
from training.tracking.data_report import MOST_ROWS, page
from training.train_options import TrainOptions
from training.workers.group import ALONE

QUICK = ("--rounds=2", "--early-stopping-rounds=0", "--nthread=1")


def report(source: Path | str, *argv: str) -> tuple[str, ElementTree.Element, TrainOptions]:
    options = TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", f"--data={source}", *QUICK, *argv])
    text = page(train(options, ALONE), "0123")
    return text, ElementTree.fromstring(text.removeprefix("<!doctype html>")), options  # noqa: S314 - our own page


def rows_of(root: ElementTree.Element) -> dict[str, list[ElementTree.Element]]:
    """Return the cells of each feature."""
    return {str(row[0].text): list(row) for row in root.findall("./body/table")[1].findall("tr")}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table with missing values, markup in names and values, and a leak."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"age": draw.normal(40, 9, 500), "plan & price": draw.choice(["<i>", "b & c", "d"], 500)})
    frame["vip"] = draw.random(500) < 0.3
    frame["left"] = np.where(draw.random(500) + 0.4 * frame["vip"] > 0.7, "yes", "no")
    frame["reason"] = np.where(frame["left"] == "yes", "price", "none")
    frame.loc[::5, "age"] = np.nan
    frame.to_parquet(file := tmp_path / "churn.parquet")
    return file


def test_page_shows_what_pandas_computes(table: Path) -> None:
    _, root, options = report(table, "--target=left")
    known = pd.read_parquet(table).iloc[split(load(options.data_spec), options.split_spec).rest]

    rows = rows_of(root)

    assert list(rows) == ["age", "plan & price", "vip", "reason"]
    assert [str(cells[1].text) for cells in rows.values()] == ["double", "category (3)", "boolean", "category (2)"]
    missing = known["age"].isna().mean()
    assert rows["age"][2].text == f"{missing:.1%}"
    left = (known["left"] == "yes").astype(float)
    explained = left.groupby(known["vip"]).transform("mean").var(ddof=0) / left.var(ddof=0)
    assert rows["vip"][3].text == f"{explained:.1%}"
    assert rows["reason"][3].text == "100.0%"
    gains = [float(str(cells[4].text).rstrip("%")) for cells in rows.values()]
    assert sum(gains) == pytest.approx(100, abs=0.3)
    counts = known["plan & price"].value_counts()
    assert rows["plan & price"][6].text == ", ".join(counts.index)
    heights = re.findall(r"v-(\d+)", rows["plan & price"][5][0][0].attrib["d"])
    assert [int(height) for height in heights] == [max(1, count * 40 // counts.max()) for count in counts]
    assert rows["age"][5].find("./svg/path[@class='missing']") is not None


def test_page_contains_the_warnings_and_nothing_from_elsewhere(table: Path) -> None:
    text, root, _ = report(table, "--target=left")

    sentences = [str(item.text) for item in root.findall("./body/ul/li")]
    assert sentences[0] == (
        "column reason equals the target left: if it is not known when the model predicts, leave it out with --drop"
    )
    assert "held-out rows" in sentences[1]
    assert len(sentences) == 2
    assert not re.search(r"<script|<link|<img|src=|url\(|https?:", text)


@pytest.mark.parametrize(("source", "line"), [("wine", False), ("diabetes", True)])
def test_means_of_the_target_are_a_line_except_for_classes(source: str, line: bool) -> None:
    _, root, _ = report(source)

    cells: list[Any] = [each[5] for each in rows_of(root).values()]
    assert all((cell.find("./svg/polyline") is not None) == line for cell in cells)
    assert root.find("./body/p") is not None
    assert "no warning" in str(root.findall("./body/p")[0].text)


def test_parts_of_dates_are_features(tmp_path: Path) -> None:
    days = pd.date_range("2026-01-01", periods=200).astype(str)
    frame = pd.DataFrame({"day": days, "y": np.arange(200) % 7 + 0.5})
    frame.to_csv(tmp_path / "days.csv", index=False)

    _, root, _ = report(tmp_path / "days.csv", "--target=y", "--dates=day", '--date-parts=["weekday","days"]')

    rows = rows_of(root)
    assert list(rows) == ["day.weekday", "day.days"]
    assert [cells[1].text for cells in rows.values()] == ["part of a date"] * 2
    assert rows["day.weekday"][3].text == "100.0%"


def test_page_of_many_rows_and_columns_is_bounded(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    numbers = draw.standard_normal((2 * MOST_ROWS, 4)).astype(np.float32)
    frame = pd.DataFrame(numbers, columns=list("abcy"))
    frame["text"] = draw.choice([f"category {i:04}" for i in range(2000)], len(frame))
    frame.to_parquet(tmp_path / "long.parquet")

    text, root, _ = report(tmp_path / "long.parquet", "--target=y", "--max-depth=1")

    assert "40,000 of 80,000 training rows" in text
    assert rows_of(root)["text"][6].text.endswith("and 1,988 more")  # type: ignore[union-attr]
    assert len(text) < 5 * 1500 + 5000
