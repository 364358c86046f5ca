"""Columns of models of other flavors, whose rows and predictions are logged as JSON."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.monitoring.segments import LoggedColumn, LoggedModel, LoggedPredictions
from training.shipping.segment_tables import predictions_of

COLUMNS = (
    LoggedColumn("age", "long", narrow=False),
    LoggedColumn("size", "double", narrow=False),
    LoggedColumn("plan", "string"),
    LoggedColumn("new", "boolean"),
    LoggedColumn("seen", "datetime"),
    LoggedColumn("tags", "array"),
)
ROWS = [[7, 0.1, "a", True, "2026-01-31", ["x"]], [None, 2, None, None, None, None]]


def table(form: str, values: list[Any], *, classes: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> pa.Table:
    """Return the columns of one request with two rows."""
    model = LoggedModel(1, "m", "1", "f", COLUMNS, "", form, classes, len(names) or 1, names)
    block = LoggedPredictions(
        model=1,
        times=np.array([1e9]).tobytes(),
        seconds=np.array([0.5], np.float32).tobytes(),
        counts=np.array([2], np.uint32).tobytes(),
        request_ids=["r"],
        owners=[""],
        tokens=[""],
        cells=[json.dumps(ROWS).encode()],
        values=[json.dumps(values).encode()],
    )
    return predictions_of(model, block)


def test_inputs_have_the_types_of_the_model() -> None:
    found = table("number", [1, 2.5])

    kinds = {name: found.schema.field(f"input_{name}").type for name in ("age", "size", "plan", "new", "seen", "tags")}
    assert kinds == {
        "age": pa.int64(),
        "size": pa.float64(),
        "plan": pa.string(),
        "new": pa.bool_(),
        "seen": pa.string(),
        "tags": pa.string(),
    }
    assert [found[f"input_{name}"].to_pylist() for name in kinds] == [
        [7, None],
        [0.1, 2.0],
        ["a", None],
        [True, None],
        ["2026-01-31", None],
        ['["x"]', None],
    ]


@pytest.mark.parametrize(
    ("form", "values", "given", "expected"),
    [
        ("number", [1, 2.5], {}, {"prediction": [1.0, 2.5]}),
        ("label", [{"label": "a"}, {"label": "b"}], {}, {"prediction": ["a", "b"]}),
        (
            "probabilities",
            [
                {"label": "a", "probabilities": {"a": 0.75, "b": 0.25}},
                {"label": "b", "probabilities": {"a": 0, "b": 1}},
            ],
            {"classes": ("a", "b")},
            {"prediction": ["a", "b"], "probability_a": [0.75, 0.0], "probability_b": [0.25, 1.0]},
        ),
        ("numbers", [[1, 2], [3, 4]], {"names": ("x", "y")}, {"prediction_0": [1, 3], "prediction_1": [2, 4]}),
        (
            "record",
            [{"x": "one", "y": 1.5}, {"x": None, "y": [1]}],
            {"names": ("x", "y")},
            {"prediction_x": ["one", None], "prediction_y": ["1.5", "[1]"]},
        ),
    ],
)
def test_predictions_have_columns_by_their_form(
    form: str, values: list[Any], given: dict[str, tuple[str, ...]], expected: dict[str, list[Any]]
) -> None:
    found = table(form, values, **given)

    of_predictions = [name for name in found.column_names if name.startswith(("prediction", "probability"))]
    assert {name: found[name].to_pylist() for name in of_predictions if name != "prediction_id"} == expected
