"""The same cell means the same in training, in the service and in scoring, from CSV and from Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from app.errors import InvalidInputError
from app.model.contract import Contract
from app.model.xgboost import BoosterModel
from tests.training.behaviour.test_served import answers, served
from training.__main__ import main

PLANS = ["basic", "n/a", "plus", "None", "", "#N/A", "NULL"]
OWN = '["n/a", "#N/A", ""]'
# Mean probability of "yes" by plan, by the list of words.
MEANS = {
    "": {"basic": 0.078, "n/a": 0.886, "plus": 0.393, "None": 0.408, "": 0.385, "#N/A": 0.712, "NULL": 0.398},
    OWN: {"basic": 0.078, "n/a": 0.644, "plus": 0.392, "None": 0.724, "": 0.613, "#N/A": 0.639, "NULL": 0.252},
}
CHURN = {"basic": 0.1, "n/a": 0.9, "plus": 0.4, "None": 0.8, "": 0.2, "#N/A": 0.7, "NULL": 0.3}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """700 customers whose churn depends on a plan that is sometimes a word for a missing value."""
    draw = np.random.default_rng(0)
    plans = [PLANS[i % len(PLANS)] for i in range(700)]
    left = [draw.random() < CHURN[plan] for plan in plans]
    return pd.DataFrame({"plan": plans, "age": draw.integers(18, 80, 700), "left": np.where(left, "yes", "no")})


@pytest.mark.parametrize("words", ["", OWN], ids=["default", "own"])
@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_training_file_is_scored_alike_on_every_path(
    table: pd.DataFrame, tmp_path: Path, source: str, words: str
) -> None:
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    options = [f"--null-words={words}"] if words else []

    data, fitted, model = served(tmp_path, tmp_path / f"table.{source}", "--target=left", "--rounds=60", *options)

    categories = {"n/a", "#N/A"} if not words else {"None", "NULL"}
    assert set(data.columns[0].categories) == {"basic", "plus"} | categories
    wanted = fitted.booster.inplace_predict(data.features, validate_features=False)
    np.testing.assert_array_equal(answers(data, model), wanted.reshape(-1, 1))
    for name in ("csv", "parquet"):
        found = scored(tmp_path, name)
        np.testing.assert_array_equal(found["probability_yes"], wanted)
        assert found["plan"].tolist() == PLANS * 100, "copied unchanged"
    # Once, 0.858, 0.108 and 0.80 were the answers of Parquet, CSV and the service for "n/a".
    means = pd.Series(wanted).groupby(table["plan"]).mean().to_dict()
    assert means == pytest.approx(MEANS[words], abs=1e-3)


@pytest.mark.parametrize("words", ["", OWN], ids=["default", "own"])
def test_service_refuses_a_word_for_a_missing_value_and_predicts_null(
    table: pd.DataFrame, tmp_path: Path, words: str
) -> None:
    table.to_parquet(tmp_path / "table.parquet")
    options = [f"--null-words={words}"] if words else []
    data, fitted, model = served(tmp_path, tmp_path / "table.parquet", "--target=left", *options)
    wanted = fitted.booster.inplace_predict(data.features, validate_features=False)
    known = data.columns[0].categories

    for row, plan in enumerate(PLANS):
        age = int(table["age"][row])
        if plan in known:
            assert model.booster.predict(request(model, plan, age))[0, 0] == wanted[row]
            continue
        with pytest.raises(InvalidInputError) as refused:
            request(model, plan, age)
        assert "must be one of the model's categories" in refused.value.errors[0].problem
        assert model.booster.predict(request(model, None, age))[0, 0] == wanted[row]


@pytest.mark.parametrize("words", ["", OWN], ids=["default", "own"])
def test_description_of_the_training_file_counts_the_cells_of_the_training(
    table: pd.DataFrame, tmp_path: Path, words: str
) -> None:
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    options = [f"--null-words={words}"] if words else []
    data, _, _ = served(tmp_path, tmp_path / "table.csv", "--target=left", *options)
    codes = data.features[:, 0]
    known = data.columns[0].categories

    for name in ("csv", "parquet"):
        arguments = [f"--model-uri=file://{tmp_path}/model", f"--data={tmp_path}/table.{name}", "--target=left"]
        assert main(["describe", *arguments, f"--output={tmp_path}/{name}.json"]) == 0
        profile = Contract.model_validate_json((tmp_path / f"{name}.json").read_bytes()).profile
        assert profile
        plan = profile.features[0]
        assert plan.missing == pytest.approx(np.isnan(codes).mean())
        assert dict(zip(plan.categories, plan.shares, strict=True)) == pytest.approx(
            {category: (codes == number).mean() for number, category in enumerate(known)}
        )


def request(model: BoosterModel, plan: str | None, age: int) -> Any:
    return model.signature.from_split(["plan", "age"], [[plan, age]])


def scored(folder: Path, name: str) -> Any:
    arguments = [f"--model-uri=file://{folder}/model", f"--data={folder}/table.{name}", "--keep=plan"]
    assert main(["score", *arguments, f"--output={folder}/{name}.out"]) == 0
    return pd.concat(
        pq.read_table(each).to_pandas() for each in sorted((folder / f"{name}.out").glob("part-*.parquet"))
    )
