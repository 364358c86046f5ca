"""Matrices of bins give the same models as matrices of all values, however the rows are divided into batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from training.data import matrices
from training.data.dataset import Data, DataSpec, load
from training.fitting import fit

ROWS = 4000
TARGETS = {"binary": "class", "multiclass": "kind", "regression": "amount", "ranking": "grade"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame(drawn.random((ROWS, 5)), columns=list("abcde"))
    frame.loc[drawn.random(ROWS) < 0.2, "b"] = np.nan
    frame["zero"] = np.where(drawn.random(ROWS) < 0.9, 0, drawn.random(ROWS))
    frame["colour"] = drawn.choice(["red", "green", "blue", None], ROWS)
    frame["query"] = drawn.integers(0, 80, ROWS)
    frame["weight"] = frame["query"] % 5 + 1
    frame["amount"] = frame["a"] * 3 + frame["c"] + drawn.random(ROWS)
    frame["class"] = np.where(frame["amount"] > 2.5, "yes", "no")
    frame["kind"] = pd.cut(frame["amount"], 3, labels=list("xyz")).astype(str)
    frame["grade"] = frame["amount"].round().astype(int)
    path = tmp_path_factory.mktemp("matrices") / "in.parquet"
    frame.to_parquet(path)
    return path


def loaded(source: Path, task: Any, weight: str) -> Data:
    target = TARGETS[task]
    others = tuple({*TARGETS.values(), "weight"} - {target, weight})
    group = "query" if task == "ranking" else ""
    return load(DataSpec(source=str(source), target=target, task=task, group=group, drop=others, weight_column=weight))


@pytest.mark.parametrize("weight", ["", "weight"])
@pytest.mark.parametrize("task", TARGETS)
def test_bins_and_values_give_the_same_bytes(
    task: str, weight: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = loaded(source, task, weight)
    rows = np.arange(100, ROWS - 300)
    params = fit.parameters(data, {"subsample": 0.7, "colsample_bynode": 0.8, "max_bin": 64})
    whole, histories = xgb.train(params, matrices.matrix(data, rows, 1), 8).save_raw("ubj"), []

    for size in (100 * 4 * data.frame.shape[1], 1 << 20):
        monkeypatch.setattr(matrices, "_BATCH_BYTES", size)
        found = fit.fit(data, rows, params, 8, 2)
        assert isinstance(matrices.training_matrix(data, rows, params, 1), xgb.QuantileDMatrix)
        assert found.ubj == bytes(whole)
        histories.append(found.history)

    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    "params",
    [{"tree_method": "exact"}, {"tree_method": "approx"}, {"booster": "gblinear"}, {"updater": "grow_colmaker"}],
)
def test_other_methods_get_all_values(params: dict[str, str], source: Path) -> None:
    data = loaded(source, "regression", "")

    assert not isinstance(matrices.training_matrix(data, np.arange(ROWS), params, 1), xgb.QuantileDMatrix)


@pytest.mark.parametrize("task", ["multiclass", "ranking"])
def test_predictions_by_batch_equal_those_of_all_rows(task: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = loaded(source, task, "")
    rows = np.arange(7, 1500)
    booster = fit.fit(data, rows, fit.parameters(data, {}), 3, 1).booster
    wanted = booster.predict(matrices.matrix(data, rows, 1))

    monkeypatch.setattr(matrices, "_BATCH_BYTES", 4 * data.frame.shape[1] * 100)

    np.testing.assert_array_equal(matrices.predict(booster, data, rows, 1), wanted)
