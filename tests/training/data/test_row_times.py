"""A split by time holds out the latest rows, on every path that needs the held-out rows again."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.behaviour.test_served import answers, served
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.row_times import parsed, times_of
from training.data.split import Split, split
from training.errors import InputError
from training.gate.holdout import Holdout, Rule
from training.metrics.truth import Truth
from training.reproduction.retrain import retrain
from training.settings import Settings
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.train_options import TrainOptions
from training.workers import shards

DAYS = 300


def sales(days: int = DAYS) -> pd.DataFrame:
    """Return three sales a day in random order."""
    draw = np.random.default_rng(0)
    day = np.repeat(np.arange(days), 3)
    table = pd.DataFrame({"day": pd.Timestamp("2026-01-01") + pd.to_timedelta(day, "D")})
    table = table.assign(number=day, size=draw.normal(size=len(table)).round(3))
    return table.assign(paid=lambda each: 3 * each["size"] + each["number"] / 100).sample(frac=1, random_state=0)


def parts_of(folder: Path, table: pd.DataFrame, column: str = "day", **spec: Any) -> tuple[pd.DataFrame, Split]:
    table.to_csv(folder / "table.csv", index=False)
    others = tuple({"day", "number"} - {column})
    data = load(DataSpec(source=str(folder / "table.csv"), target="paid", drop=others, time_column=column))
    assert [each.name for each in data.columns] == ["size"], "the time is not a feature"
    return table.reset_index(drop=True), split(data, SplitSpec(**spec))


@pytest.mark.parametrize("column", ["day", "number"])
def test_latest_rows_are_held_out_and_validated(tmp_path: Path, column: str) -> None:
    table, parts = parts_of(tmp_path, sales(), column)
    number = table["number"].to_numpy()

    assert parts.rule == "timed"
    assert set(number[parts.holdout]) == set(range(240, 300)), "the last fifth"
    assert set(number[parts.rest]) == set(range(240))
    ((train, validation),) = parts.folds
    assert (set(number[train]), set(number[validation])) == (set(range(192)), set(range(192, 240)))
    assert parts.time_from == ("2026-08-29T00:00:00.000000000" if column == "day" else "240.0")


@pytest.mark.parametrize(("column", "gap"), [("day", "7d"), ("number", "7")])
def test_rows_of_the_gap_are_in_no_part(tmp_path: Path, column: str, gap: str) -> None:
    table, parts = parts_of(tmp_path, sales(), column, time_gap=gap, folds=3)
    number = table["number"].to_numpy()

    assert number[parts.rest].max() == 232
    assert number[parts.holdout].min() == 240
    ends = [(number[train].max(), number[part].min(), number[part].max()) for train, part in parts.folds]
    assert ends == [(50, 58, 115), (108, 116, 173), (166, 174, 232)]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array(["2026-01-31", "2026-02-01T12:00:00"]),
        pa.array(["2026-01-31T00:00:00Z", "2026-02-01T13:00:00+01:00"]),
        pa.array([20484, 20485], pa.int32()).cast(pa.date32()).cast(pa.timestamp("s")),
        pa.array(["2026-01-31", "2026-02-01T12:00:00"]).dictionary_encode(),
    ],
    ids=["text", "offset", "timestamp", "dictionary"],
)
def test_dates_of_every_form_are_nanoseconds(cells: pa.Array) -> None:
    times = times_of(pa.table({"day": cells}), "day")

    assert times.dated
    assert times.values[0] == np.datetime64("2026-01-31", "ns").astype(np.int64)
    assert parsed(times.text(times.values[1])) == (True, times.values[1])


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["2026-01-31", None], "row 2 has no value in the column day"),
        (["2026-01-31", "soon"], "column day has the type string, and not each value is a number, a date"),
        ([True, False], "column day has the type bool"),
    ],
)
def test_unusable_time_is_refused(cells: list[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"--time-column \(TRAINING_TIME_COLUMN\): {sentence}"):
        times_of(pa.table({"day": pa.array(cells)}), "day")


@pytest.mark.parametrize(
    ("column", "options", "sentence"),
    [
        ("day", {"time_gap": "7"}, "--time-gap .*7 is not a duration such as 7d"),
        ("number", {"time_gap": "7d"}, "--time-gap .*7d is not a positive number"),
        ("number", {"time_gap": "500"}, "day|number does not have enough different times for 1 fold"),
        ("nobody", {}, r"--time-column \(TRAINING_TIME_COLUMN\): column nobody does not exist"),
    ],
)
def test_unusable_gap_is_refused(tmp_path: Path, column: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parts_of(tmp_path, sales(), column, **options)


@pytest.mark.parametrize("more", [("--group=a",), ("--holdout-key=a",)])
def test_second_rule_for_the_holdout_is_refused(more: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="--time-column decides the holdout alone"):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--time-column=day", *more])
    with pytest.raises(InputError, match="--time-gap needs --time-column"):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--time-gap=7d"])
    assert issubclass(TrainOptions, Settings)


def test_split_by_time_is_served_and_reproduced_bit_for_bit(tmp_path: Path) -> None:
    sales().to_csv(tmp_path / "table.csv", index=False)
    options = ("--target=paid", "--time-column=day", "--time-gap=7d", "--drop=number")

    data, fitted, model = served(tmp_path, tmp_path / "table.csv", *options)

    wanted = fitted.booster.inplace_predict(data.features, validate_features=False)
    np.testing.assert_array_equal(answers(data, model), wanted.reshape(-1, 1))
    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    assert (recorded.split.rule, recorded.split.time_from) == ("timed", "2026-08-29T00:00:00.000000000")
    assert retrain(recorded, "", 2, "").fitted.ubj == (tmp_path / "work/model.ubj").read_bytes()


def test_workers_hold_out_the_rows_of_a_single_one(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(sales(), preserve_index=False), tmp_path / "t.parquet", row_group_size=100)
    spec = DataSpec(source=str(tmp_path / "t.parquet"), target="paid", time_column="day", drop=("number",))
    alone = load(spec)
    rows = split(alone, SplitSpec()).holdout

    held = shards.held_out(spec, SplitSpec(), 3)

    np.testing.assert_array_equal(held.frame["size"], alone.frame["size"].to_numpy()[rows])
    np.testing.assert_array_equal(held.target, alone.target[rows])
    assert held.times
    assert alone.times
    np.testing.assert_array_equal(held.times.values, alone.times.values[rows])


def rule(digest: str, column: str, start: str) -> Rule:
    return Rule(digest, (), 0, 0.2, column, start)


def test_gate_compares_only_rows_later_than_the_training_of_both() -> None:
    later = rule("b", "day", "2026-03-01T00:00:00.000000000")
    days = pa.array(["2026-03-01", "2026-03-15", "2026-04-01"])
    times = times_of(pa.table({"day": days}), "day")
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    held = Holdout(frame, Truth(np.array([1.0, 2.0, 3.0])), later, times=times)

    grown = held.unseen_by(rule("a", "day", "2026-02-01T00:00:00.000000000"))
    shrunk = held.unseen_by(rule("c", "day", "2026-03-15T00:00:00.000000000"))

    assert later.fair_to(rule("a", "day", "2026-02-01T00:00:00.000000000"))
    assert grown.frame["x"].tolist() == [1, 2, 3]
    assert (shrunk.frame["x"].tolist(), shrunk.truth.target.tolist()) == ([2, 3], [2, 3])
    for other in (rule("a", "", ""), rule("a", "month", later.time_from), rule("a", "day", "240.0")):
        assert not later.fair_to(other)
        assert not other.fair_to(later)
