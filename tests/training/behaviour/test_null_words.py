"""The same cell means the same in training, in the service and in scoring, from CSV and from Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.training.behaviour.test_served import answers, served
from training.__main__ import main

PLANS = ["basic", "n/a", "plus", "None", "", "#N/A", "NULL"]
CHURN = {"basic": 0.1, "n/a": 0.9, "plus": 0.4, "None": 0.8, "": 0.2, "#N/A": 0.7, "NULL": 0.3}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """700 customers whose churn depends on a plan that is sometimes a word for a missing value."""
    draw = np.random.default_rng(0)
    plans = [PLANS[i % len(PLANS)] for i in range(700)]
    left = [draw.random() < CHURN[plan] for plan in plans]
    return pd.DataFrame({"plan": plans, "age": draw.integers(18, 80, 700), "left": np.where(left, "yes", "no")})


@pytest.mark.parametrize("words", ["", '["n/a", "#N/A", ""]'], ids=["default", "own"])
@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_training_file_is_scored_alike_on_every_path(
    table: pd.DataFrame, tmp_path: Path, source: str, words: str
) -> None:
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    options = [f"--null-words={words}"] if words else []

    data, fitted, model = served(tmp_path, tmp_path / f"table.{source}", "--target=left", *options)

    categories = {"n/a", "#N/A"} if not words else {"None", "NULL"}
    assert set(data.columns[0].categories) == {"basic", "plus"} | categories
    wanted = fitted.booster.inplace_predict(data.features, validate_features=False)
    np.testing.assert_array_equal(answers(data, model), wanted.reshape(-1, 1))
    for name in ("csv", "parquet"):
        found = scored(tmp_path, name)
        np.testing.assert_array_equal(found["probability_yes"], wanted)
        assert found["plan"].tolist() == PLANS * 100, "copied unchanged"


def scored(folder: Path, name: str) -> Any:
    arguments = [f"--model-uri=file://{folder}/model", f"--data={folder}/table.{name}", "--keep=plan"]
    assert main(["score", *arguments, f"--output={folder}/{name}.out"]) == 0
    return pd.concat(
        pq.read_table(each).to_pandas() for each in sorted((folder / f"{name}.out").glob("part-*.parquet"))
    )
