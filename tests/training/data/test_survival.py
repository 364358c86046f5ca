"""Times until an event: which rows are censored, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.data.dataset import Data, DataSpec, load
from training.errors import InputError
from training.train_options import TrainOptions

INFINITE = np.inf


def loaded(folder: Path, task: str = "survival_time", **columns: Any) -> Data:
    pd.DataFrame({"age": [30.0, 40.0, 50.0]} | columns).to_parquet(file := folder / "times.parquet")
    named = {f"{name}_column": name for name in ("event", "upper_bound") if name in columns}
    return load(DataSpec.model_validate({"source": str(file), "target": "week", "task": task} | named))


@pytest.mark.parametrize("events", [[1, 0, 1], [True, False, True], [1.0, 0.0, 1.0]])
def test_event_column_contains_which_times_are_observed(tmp_path: Path, events: list[object]) -> None:
    data = loaded(tmp_path, week=[3, 7, 5], event=events)

    assert data.upper is not None
    assert (data.target.tolist(), data.upper.tolist()) == ([3, 7, 5], [3, INFINITE, 5])
    assert list(data.frame.columns) == ["age"]
    assert set(data.column_sha256) == {"age", "week", "event"}


def test_negative_time_is_censored_without_an_event_column(tmp_path: Path) -> None:
    signed = loaded(tmp_path, week=[3, -7, 5])
    named = loaded(tmp_path, week=[3, 7, 5], event=[1, 0, 1])

    assert signed.upper is not None
    assert (signed.target.tolist(), signed.upper.tolist()) == ([3, 7, 5], [3, INFINITE, 5])
    assert signed.sha256 == named.sha256


def test_missing_upper_bound_is_infinite(tmp_path: Path) -> None:
    data = loaded(tmp_path, week=[0, 7, 5], upper_bound=[4.0, None, 5.0])

    assert data.upper is not None
    assert data.upper.tolist() == [4, INFINITE, 5]


def test_events_are_part_of_the_digest(tmp_path: Path) -> None:
    one, other = (loaded(tmp_path, week=[3, 7, 5], event=events) for events in ([1, 0, 1], [1, 1, 1]))

    assert one.sha256 != other.sha256
    assert one.column_sha256["event"] != other.column_sha256["event"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"week": [3, 0, 5], "event": [1, 0, 1]}, "Row 2, column week: the time is 0; a time until an event is"),
        ({"week": [3, -7, 5], "event": [1, 0, 1]}, "Row 2, column week: the time is -7"),
        ({"week": [3, 7, 5], "event": [1, 2, 1]}, "row 2, column event: the value is 2; use 1 or true"),
        ({"week": [3, 7, 5], "event": [1, None, 1]}, "row 2, column event: the value is missing; use 1 or true"),
        (
            {"week": [3, 7, 5], "event": ["a", "b", "c"]},
            "column event has the type large_string, but it must contain 1",
        ),
        ({"week": ["a", "b", "c"], "event": [1, 1, 1]}, "'a' is not a number"),
        ({"week": [3, 7, 5], "upper_bound": [3, 6, 9]}, "row 2: the time is between 7 [(]week[)] and 6"),
        ({"week": [0, 7, 5], "upper_bound": [0, 7, 9]}, "the upper bound positive and not below it"),
    ],
)
def test_unusable_times_name_row_column_and_remedy(tmp_path: Path, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        loaded(tmp_path, **columns)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--event-column=event"], "--event-column needs the objective survival:cox or survival:aft"),
        (["--event-column=e", "--upper-bound-column=u"], "remove --event-column"),
        (["--upper-bound-column=u", "--task=survival_risk"], "--upper-bound-column needs the objective survival:aft"),
        (["--event-column=week", "--task=survival_risk"], "need a column without another use"),
    ],
)
def test_options_that_do_not_fit_are_refused(argv: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--target=week", *argv])
