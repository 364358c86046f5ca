"""Rare categories are missing values in training, in the service, in scoring and in the gate."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from tests.app.harness import serving, settings_for
from tests.training.behaviour.test_served import served
from tests.training.conftest import Server
from training.__main__ import main
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError
from training.gate import holdout
from training.reproduction.retrain import retrain
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.tracking.mlflow_errors import mlflow_at
from training.train_options import TrainOptions

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
OPTIONS = ("--target=paid", "--categorical=area", "--min-category-count=20", "--unknown-category=missing")
SPEC: dict[str, Any] = {"target": "paid", "categorical": ("area",)}
KNOWN: dict[str, list[Any]] = {"city": ["Bern", "Oslo"], "area": [10, 20]}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table with two cities and two areas that are frequent, and others with 1 to 19 rows each."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"city": draw.choice(KNOWN["city"], 600), "area": draw.choice(KNOWN["area"], 600)})
    frame.loc[:40, "city"] = [f"Town {i % 7}" for i in range(41)]
    frame.loc[100:118, "area"] = 30
    frame["paid"] = (frame["city"] == "Oslo") * 2.5 + frame["city"].str.startswith("Town") * 9 + frame["area"] / 7
    path = tmp_path_factory.mktemp("rare") / "table.csv"
    frame.round(3).to_csv(path, index=False)
    return path


def test_rare_categories_are_missing_in_training_service_and_scoring(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data, fitted, model = served(tmp_path, table, *OPTIONS)

    frame = pd.read_csv(table)
    for name, known in KNOWN.items():
        frame[name] = pd.Categorical(frame[name].where(frame[name].isin(known)), categories=known)
    own = xgb.DMatrix(frame[["city", "area"]], frame["paid"], enable_categorical=True)
    rest = frame.iloc[split(data, SplitSpec()).rest]
    train = xgb.DMatrix(rest[["city", "area"]], rest["paid"], enable_categorical=True)
    expected = xgb.train(fitted.params, train, fitted.rounds).predict(own)
    content = (tmp_path / "work/model.ubj").read_bytes()
    assert {each.name: list(each.categories) for each in data.columns} == KNOWN
    assert "column city: 7 of 9 categories have fewer than 20 rows (6.8 % of all rows) and are missing" in caplog.text
    np.testing.assert_array_equal(xgb.Booster(model_file=bytearray(content)).predict(own), expected)
    rows = pd.read_csv(table)[["city", "area"]].to_numpy().tolist()
    found = model.booster.predict(model.signature.from_split(["city", "area"], rows))
    np.testing.assert_array_equal(found[:, 0], expected)
    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path / "cache")) as client:
        answer = client.post("/predict", json={"columns": ["city", "area"], "data": rows[:200]})
    np.testing.assert_array_equal(np.array(answer.json()["predictions"], dtype=np.float32), expected[:200])
    assert main(["score", f"--model-uri=file://{tmp_path}/model", f"--data={table}", f"--output={tmp_path}/out"]) == 0
    scored = pq.read_table(next((tmp_path / "out").glob("part-*"))).column("prediction").to_numpy()
    np.testing.assert_array_equal(scored, expected)
    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    assert retrain(recorded, "", 2, "").fitted.ubj == content


def test_gate_shows_the_other_model_the_categories_that_are_rare_for_the_candidate(
    server: Server, trained: Callable[..., dict[str, Any]], table: Path
) -> None:
    made = trained(server, "rare", f"--data={table}", *OPTIONS, "--rounds=2", "--early-stopping-rounds=0")

    with mlflow_at(server.uri):
        held = holdout.reload(server.client, made["run_id"])

    assert any(str(city).startswith("Town") for city in held.frame["city"])


def test_column_of_rare_categories_only_is_refused(table: Path) -> None:
    with pytest.raises(InputError, match=r"no category of column area has 400 rows; use a smaller number"):
        load(DataSpec(source=str(table), drop=("city",), min_category_count=400, **SPEC))


def test_rare_categories_need_a_service_that_accepts_them() -> None:
    with pytest.raises(InputError, match="--min-category-count needs --unknown-category=missing"):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--min-category-count=2"])
