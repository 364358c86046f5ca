"""A model that is better on average and worse for a group of rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from training.data.dataset import DataSpec, load
from training.data.row_slices import slices_of
from training.errors import InputError
from training.fitting.group_metrics import measure_groups
from training.gate.groups import worst_group
from training.gate.promotion import Rules
from training.metrics.truth import Truth

RULES = Rules(metric="rmse", margin=0, limits={}, confidence=0.95, resamples=200, seed=0)
DRAW = np.random.default_rng(0)


def test_worst_group_is_found_although_the_average_is_better() -> None:
    regions = np.array(["north"] * 300 + ["south"] * 60 + ["tiny"] * 5)
    slices = pd.DataFrame({"region": regions, "all": "one"})
    target, noise = DRAW.normal(size=365), DRAW.normal(size=365)
    champion = target + noise
    candidate = target + noise * np.where(regions == "north", 0.5, 2)

    found = worst_group(Truth(target), slices, champion, candidate, RULES)

    assert found
    assert (found.name, found.rows) == ("region=south", 60)
    error = np.sqrt(np.mean(noise[300:360] ** 2))
    assert (found.found.champion, found.found.candidate) == pytest.approx((error, 2 * error))
    assert found.found.low < found.found.gain < found.found.high < 0
    assert f"the worst group is region=south: rmse is {2 * error:.6g} on 60 rows" in found.sentence(0.95)


def test_groups_of_a_single_class_are_not_compared() -> None:
    target = np.repeat([0.0, 1.0], 50)
    slices = pd.DataFrame({"side": np.repeat(["a", "b"], 50)})

    assert worst_group(Truth(target), slices, target, target, replace(RULES, metric="auc")) is None


def test_metrics_by_group_are_those_of_its_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": DRAW.normal(size=90), "plan": ["a b", "c/d", None] * 30, "y": DRAW.normal(size=90)})
    table.to_csv(tmp_path / "table.csv", index=False)
    data = load(DataSpec(source=str(tmp_path / "table.csv"), target="y", group_metrics=("plan",)))
    rows, output = np.arange(60), DRAW.normal(size=60).astype(np.float32)

    found = measure_groups(data, rows, output, "mae")

    errors = np.abs(output - data.target[:60])
    groups = {"a b": 0, "c_d": 1, "missing": 2}
    assert found == pytest.approx({f"holdout_mae/plan/{name}": errors[i::3].mean() for name, i in groups.items()})
    assert "plan" in data.frame, "it is also a feature"


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([0.5, 1.5], "column g has the type double; use a column of text, whole numbers or booleans"),
        ([str(i) for i in range(60)], "column g has 60 different values, and at most 50 are possible"),
    ],
)
def test_column_that_forms_no_groups_is_refused(cells: list[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"--group-metrics \(TRAINING_GROUP_METRICS\): {sentence}"):
        slices_of(pa.table({"g": pa.array(cells)}), ["g"])
