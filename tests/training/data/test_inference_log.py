"""Tables of an inference log: labels joined to what was asked, the same rows again from a log that grows."""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from training.data import dataset, inference_log, split
from training.errors import InputError
from training.train_options import TrainOptions

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def put(log: Path, kind: str, name: str, columns: dict[str, Any]) -> None:
    """Write a file as the shipper does."""
    path = log / kind / "day=2026-03-01" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    path.write_bytes(buffer.getvalue())


def times(count: int, start: datetime = NOON) -> pa.Array:
    return pa.array([start + timedelta(seconds=number) for number in range(count)], pa.timestamp("us", "UTC"))


def predictions(log: Path, name: str, ids: list[str | None], model: str = "churn", **inputs: Any) -> None:
    given = {f"input_{key}": values for key, values in inputs.items()}
    count = len(ids)
    put(log, "predictions", name, {
        "time": times(count), "prediction_id": pa.array(ids, pa.string()), "model_name": pa.repeat(model, count),
        "prediction": pa.array([0.5] * count, pa.float32()), **given,
    })  # fmt: skip


def labels(log: Path, name: str, found: Mapping[str, str | float], start: datetime = NOON) -> None:
    put(log, "labels", name, {
        "time": times(len(found), start), "prediction_id": pa.array(list(found), pa.string()),
        "label_class": pa.array([each if isinstance(each, str) else None for each in found.values()], pa.string()),
        "label_number": pa.array([None if isinstance(each, str) else each for each in found.values()], pa.float64()),
    })  # fmt: skip


def options(log: Path, *more: str) -> TrainOptions:
    given = ["--mlflow-tracking-uri=http://mlflow", f"--from-log={log}", f"--log-until={NOON + timedelta(hours=1)}"]
    return TrainOptions.load("train", [*given, *more])


def test_each_labelled_prediction_is_one_row(tmp_path: Path) -> None:
    predictions(tmp_path, "a", ["1", "2", None], size=[1.0, 2.0, 3.0], colour=["red", None, "blue"])
    predictions(tmp_path, "b", ["3"], size=[4.0], floor=[7])
    labels(tmp_path, "a", {"3": "yes", "1": "no", "9": "yes"})
    labels(tmp_path, "b", {"1": "yes"}, NOON + timedelta(minutes=1))  # a correction, which wins
    labels(tmp_path, "c", {"2": "no"}, NOON + timedelta(days=1))  # too late

    found = inference_log.labelled(options(tmp_path, "--target=churned").data_spec.source)

    rows = found.table.drop_columns(["logged_at"]).to_pylist()
    assert sorted(rows, key=lambda row: row["prediction_id"]) == [
        {"size": 1.0, "colour": "red", "floor": None, "prediction_id": "1", "churned": "yes"},
        {"size": 4.0, "colour": None, "floor": 7, "prediction_id": "3", "churned": "yes"},
    ]
    days = "day=2026-03-01"
    assert set(found.files) == {
        *(f"{kind}/{days}/{name}.parquet" for kind in ("predictions", "labels") for name in "ab")
    }


def test_data_have_only_what_was_asked_as_features(tmp_path: Path) -> None:
    ids = [f"{number:024x}" for number in range(50)]
    predictions(tmp_path, "a", list(ids), size=[float(number) for number in range(50)], floor=list(range(50)))
    labels(tmp_path, "a", {each: "yes" if number % 3 else "no" for number, each in enumerate(ids)})

    found = dataset.load(options(tmp_path).data_spec)

    assert [column.name for column in found.columns] == ["size", "floor"]
    assert (found.target_name, found.task, found.classes) == ("label", "binary", ("no", "yes"))
    assert found.key == ("prediction_id",)


def test_numbers_are_labels_of_a_regression(tmp_path: Path) -> None:
    ids = [f"{number:024x}" for number in range(50)]
    predictions(tmp_path, "a", list(ids), size=[float(number) for number in range(50)])
    labels(tmp_path, "a", {each: number / 7 for number, each in enumerate(ids)})

    found = dataset.load(options(tmp_path).data_spec)

    assert found.task == "regression"
    assert found.target.tolist() == pytest.approx([number / 7 for number in range(50)])


def test_table_and_holdout_stay_the_same_in_a_log_that_grows(tmp_path: Path) -> None:
    ids = [f"{number:024x}" for number in range(200)]
    predictions(tmp_path, "a", list(ids[:100]), size=[float(number) for number in range(100)])
    labels(tmp_path, "a", {each: "yes" if number % 3 else "no" for number, each in enumerate(ids[:100])})
    first = options(tmp_path)
    before = dataset.load(first.data_spec)

    predictions(tmp_path, "b", list(ids[100:]), size=[float(number) for number in range(100)])
    later = {each: "yes" if number % 3 else "no" for number, each in enumerate(ids[100:])}
    labels(tmp_path, "b", later, NOON + timedelta(hours=2))

    again = dataset.load(first.data_spec)
    assert (again.raw_sha256, again.sha256) == (before.raw_sha256, before.sha256)
    second = options(tmp_path, f"--log-until={NOON + timedelta(hours=3)}")
    grown = dataset.load(second.data_spec)
    assert len(grown.frame) == 200
    held = [set(data.frame["size"].iloc[split.split(data, first.split_spec).holdout]) for data in (before, again)]
    assert held[0] == held[1]
    of_first = [row for row in split.split(grown, second.split_spec).holdout.tolist() if row in _rows(grown, ids[:100])]
    assert {grown.frame["size"].iloc[row] for row in of_first} == held[0]


def _rows(data: dataset.Data, ids: list[str]) -> set[int]:
    """Return the rows of the first predictions, which are the first by their time or have the same time."""
    table = inference_log.labelled(data.spec.source).table
    return {row for row, identity in enumerate(table["prediction_id"].to_pylist()) if identity in set(ids)}


def test_time_of_the_prediction_can_split(tmp_path: Path) -> None:
    ids = [f"{number:024x}" for number in range(50)]
    predictions(tmp_path, "a", list(ids), size=[float(number) for number in range(50)])
    labels(tmp_path, "a", {each: "yes" if number % 3 else "no" for number, each in enumerate(ids)})
    given = options(tmp_path, "--time-column=logged_at")

    found = dataset.load(given.data_spec)

    assert found.frame["size"].iloc[split.split(found, given.split_spec).holdout].min() == 40
    assert [column.name for column in found.columns] == ["size"]


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (Path.exists, "has no prediction with a label"),
        (lambda log: predictions(log, "a", ["1"], size=[1.0]), "has no prediction with a label"),
        (lambda log: predictions(log, "b", ["2"], model="other", size=[1.0]), "several models (churn, other)"),
        (lambda log: labels(log, "b", {"2": 1.5}, NOON + timedelta(minutes=1)), "are classes and numbers"),
        (lambda log: predictions(log, "a", ["1"], label=[1.0]), "the model has a column label"),
        (lambda log: (log / "labels/day=2026-03-01/x.parquet").write_bytes(b"x"), "x.parquet is not a Parquet file"),
    ],
)
def test_log_without_a_table_is_refused(write: Callable[[Path], Any], problem: str, tmp_path: Path) -> None:
    if "no prediction" not in problem:
        predictions(tmp_path, "a", ["1"], size=[1.0])
        labels(tmp_path, "a", {"1": "yes", "2": "no"})
    write(tmp_path)

    with pytest.raises(InputError) as caught:
        dataset.load(options(tmp_path).data_spec)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"), [("--data=wine", "--from-log replaces --data"), ("--log-until=soon", "not a time")]
)
def test_options_that_contradict_are_refused(given: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        options(tmp_path, given)


def test_newest_inputs_are_described(tmp_path: Path) -> None:
    predictions(tmp_path, "a", ["1", None], size=[1.0, 2.0])
    predictions(tmp_path, "b", [None], size=[3.0])

    assert inference_log.asked(str(tmp_path), 2).to_pydict() == {"size": [3.0, 1.0]}
