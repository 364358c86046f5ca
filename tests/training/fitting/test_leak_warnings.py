"""Warnings before the training about data that make a model look better than it is."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.fitting.leak_warnings import warn_of_leaks

ROWS = 1000


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Customers whose features predict the target, but not perfectly."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"age": draw.integers(18, 80, ROWS), "plan": draw.choice([*"abc"], ROWS)})
    table["income"] = draw.normal(50, 15, ROWS).round(3)
    table["income"] = table["income"].where(draw.random(ROWS) > 0.1)
    table["left"] = np.where(table["age"] + draw.normal(0, 10, ROWS) > 50, "yes", "no")
    return table.assign(spent=(table["age"] * 3 + draw.normal(0, 30, ROWS)).round(3))


def warnings(folder: Path, table: pd.DataFrame, caplog: pytest.LogCaptureFixture, **spec: Any) -> list[str]:
    table.to_csv(folder / "table.csv", index=False)
    data = load(DataSpec(source=str(folder / "table.csv"), **({"target": "left", "drop": ("spent",)} | spec)))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "training"):
        warn_of_leaks(data, split(data, SplitSpec()))
    return [each.getMessage() for each in caplog.records]


@pytest.mark.parametrize("spec", [{}, {"target": "spent", "drop": ("left",)}, {"target": "plan", "drop": ("spent",)}])
def test_sound_data_have_no_warning(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture, spec: dict[str, Any]
) -> None:
    assert warnings(tmp_path, table, caplog, **spec) == []


LEAKS: dict[str, tuple[Any, str]] = {
    "a constant": (lambda t: ["same"] * len(t), "column new has the same value in each training row"),
    "an identifier": (lambda t: np.arange(len(t)) * 7, "column new has a different whole number in each"),
    "the target": (lambda t: t["left"].map({"yes": "gone", "no": "here"}), "column new equals the target left"),
    "the target as a number": (lambda t: (t["left"] == "no") * 5.5, "column new equals the target left"),
    "a number after the fact": (
        lambda t: np.where(t["left"] == "yes", t["age"] + 60.5, t["age"] - 0.25).round(2),
        "column new alone predicts the target with an AUC of ",
    ),
    "a missing value after the fact": (
        lambda t: t["income"].fillna(1).where((t["left"] == "yes") | (np.arange(ROWS) % 200 == 0)),
        "column new alone predicts the target with an AUC of ",
    ),
    "a category after the fact": (
        lambda t: np.where(np.arange(ROWS) % 300 == 0, "x", np.where(t["left"] == "yes", t["plan"], t["plan"] + "0")),
        "column new alone predicts the target with an AUC of ",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_suspicious_column_is_named(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture, leak: str
) -> None:
    values, sentence = LEAKS[leak]

    (found,) = warnings(tmp_path, table.assign(new=values), caplog)

    assert found.startswith(sentence)
    assert "--drop" in found


@pytest.mark.parametrize(
    ("factor", "noise", "sentence"),
    [(1.0, 0.0, "column new equals the target spent"), (-2.5, 0.5, "column new has a correlation of 0.999")],
)
def test_column_that_is_almost_the_target_of_a_regression_is_named(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture, factor: float, noise: float, sentence: str
) -> None:
    new = (table["spent"] * factor + np.random.default_rng(1).normal(0, noise, ROWS)).round(3)

    (found,) = warnings(tmp_path, table.assign(new=new), caplog, target="spent", drop=("left",))

    assert found.startswith(sentence)


def test_identifiers_of_text_are_no_leak(table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A category of its own for each row separates the training rows, but predicts nothing."""
    found = warnings(tmp_path, table.assign(new=[f"c{i}" for i in range(ROWS)]), caplog)

    assert not [each for each in found if "AUC" in each]
    assert [each for each in found if each.startswith("column new has categories that no training row contains: c")]


def test_copies_across_the_split_are_counted(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doubled = pd.concat([table, table.head(ROWS // 2)])

    (found,) = warnings(tmp_path, doubled, caplog)
    data = load(DataSpec(source=str(tmp_path / "table.csv"), target="left", drop=("spent",)))
    parts = split(data, SplitSpec())
    keys = np.array(["|".join(map(str, row)) for row in doubled.drop(columns="spent").itertuples(index=False)])
    copies = int(np.isin(keys[parts.holdout], keys[parts.rest]).sum())
    assert copies > 100
    assert found.startswith(f"{copies} of {len(parts.holdout)} held-out rows (")
    assert warnings(tmp_path, doubled, caplog, holdout_key=("*",)) == []


def test_category_of_later_rows_is_named(table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    later = table.assign(day=np.arange(ROWS), plan=table["plan"].where(np.arange(ROWS) < 900, "new plan"))

    (found,) = warnings(tmp_path, later, caplog, time_column="day")

    assert found == "column plan has categories that no training row contains: new plan"
