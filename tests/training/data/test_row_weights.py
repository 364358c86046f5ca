"""Weights of the rows in the fit, the metrics and the gate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from tests.training.behaviour.test_served import answers, served
from tests.training.conftest import Server
from tests.training.gate.test_promote import proposed
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.matrices import matrix
from training.data.row_weights import weights_of
from training.data.split import split
from training.errors import InputError
from training.gate import holdout
from training.gate.promote import promote
from training.metrics.catalog import METRICS
from training.metrics.truth import Truth
from training.reproduction.retrain import retrain
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.registered import read
from training.train_options import TrainOptions
from training.workers import shards

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
DRAWN = np.random.default_rng(0)


def sales(days: int) -> pd.DataFrame:
    """Return three sales a day. Those with a large weight follow a different rule."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"day": np.repeat(np.arange(days), 3), "size": draw.normal(size=3 * days).round(3)})
    table["weight"] = draw.choice([1, 50], len(table))
    table["shop"] = np.where(np.arange(len(table)) % 2, "West/1", "East")
    table["paid"] = (np.where(table["weight"] == 50, -2, 3) * table["size"]).round(3)
    return table


@pytest.mark.parametrize("name", METRICS)
def test_weight_counts_a_row_as_often(name: str) -> None:
    groups = np.repeat(np.arange(20), 5)
    weights = DRAWN.integers(1, 4, 20)[groups] if name == "ndcg" else DRAWN.integers(1, 4, 100)
    target, predictions = DRAWN.integers(0, 2, 100).astype(float), DRAWN.random(100).round(1)
    if "regression" in METRICS[name].tasks:  # a relative error needs values other than 0
        target, predictions = target + 0.5, predictions + 0.1
    copied = np.repeat(np.arange(100), weights)

    found = METRICS[name].value(Truth.of(target, groups, weights), predictions)

    if name == "ndcg":
        each = [METRICS[name].value(Truth(target[groups == g], groups[groups == g]), predictions[groups == g])
                for g in range(20)]  # fmt: skip
        assert found == pytest.approx(np.average(each, weights=weights[::5]))
    else:
        assert found == pytest.approx(METRICS[name].value(Truth(target[copied]), predictions[copied]))


def test_weighted_model_is_that_of_xgboost_and_is_served_and_reproduced_bit_for_bit(tmp_path: Path) -> None:
    sales(200).to_csv(tmp_path / "table.csv", index=False)
    options = ("--target=paid", "--weight-column=weight", "--drop=day,shop")

    data, fitted, model = served(tmp_path, tmp_path / "table.csv", *options)

    table = pd.read_csv(tmp_path / "table.csv").drop(columns="shop").astype(np.float32)
    rest = table.iloc[split(data, SplitSpec()).rest]
    own = xgb.train(
        fitted.params | {"nthread": 1},
        xgb.DMatrix(rest[["size"]], rest["paid"], weight=rest["weight"], enable_categorical=True),
        fitted.rounds,
    )
    content = (tmp_path / "work/model.ubj").read_bytes()
    assert bytes(own.save_raw("ubj")) == content
    assert [each.name for each in model.signature.columns] == ["size"]
    wanted = own.inplace_predict(data.features, validate_features=False)
    np.testing.assert_array_equal(answers(data, model), wanted.reshape(-1, 1))
    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    again = retrain(recorded, "", 2, "")
    assert (again.fitted.ubj, again.data.sha256) == (content, recorded.data.sha256)
    assert again.metrics == {name: recorded.metrics[name] for name in again.metrics}
    assert load(recorded.data.spec.model_copy(update={"weight_column": ""})).sha256 != recorded.data.sha256


def test_weights_of_a_ranking_belong_to_its_queries(tmp_path: Path) -> None:
    queries = np.tile(np.arange(30), 4)
    table = pd.DataFrame({"a": DRAWN.random(120), "query": queries, "grade": DRAWN.integers(0, 3, 120)})
    table.assign(weight=queries % 3 + 1).to_csv(tmp_path / "fits.csv", index=False)
    table.assign(weight=np.arange(120) % 7 + 1).to_csv(tmp_path / "differs.csv", index=False)
    spec = DataSpec(target="grade", task="ranking", group="query", weight_column="weight")

    data = load(spec.model_copy(update={"source": str(tmp_path / "fits.csv")}))

    rows = np.arange(8, 120)
    np.testing.assert_array_equal(matrix(data, rows, 1).get_weight(), np.arange(2, 30) % 3 + 1)
    with pytest.raises(InputError, match="a query has rows with the weights 1 and 3 in column weight"):
        load(spec.model_copy(update={"source": str(tmp_path / "differs.csv")}))


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([1, None, 2], "row 2, column w: the weight is missing; weights must be positive"),
        ([1.5, 2, 0], "row 3, column w: the weight is 0; weights must be positive 32-bit numbers"),
        ([1, 1e60], r"row 2, column w: the weight is 1e\+60"),
        ([-1], "row 1, column w: the weight is -1"),
        (["a"], "column w has the type string, but weights must be numbers"),
    ],
)
def test_unusable_weight_is_refused(cells: list[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"--weight-column \(TRAINING_WEIGHT_COLUMN\): {sentence}"):
        weights_of(pa.table({"w": pa.array(cells)}), "w")


def test_column_of_another_purpose_is_refused() -> None:
    with pytest.raises(InputError, match="--weight-column needs a column of its own"):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--target=w", "--weight-column=w"])


def test_workers_have_the_weights_of_a_single_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pandas(sales(100), preserve_index=False), path, row_group_size=100)
    spec = DataSpec(source=str(path), target="paid", weight_column="weight", drop=("day", "shop"))
    alone = load(spec)
    rows = split(alone, SplitSpec()).holdout

    held = shards.held_out(spec, SplitSpec(), 3)

    assert list(held.frame) == ["size"]
    assert held.weights is not None
    assert alone.weights is not None
    np.testing.assert_array_equal(held.weights, alone.weights[rows])


def test_gate_compares_weighted_rows_that_are_later_than_both_trainings(
    server: Server, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    options = ("--target=paid", "--weight-column=weight", "--time-column=day", "--early-stopping-rounds=0")
    groups = ("--drop=shop", "--group-metrics=shop")

    def grown(days: int, *more: str) -> dict[str, Any]:
        sales(days).to_csv(tmp_path / f"{days}.csv", index=False)
        return trained(server, "weighted", *options, *groups, f"--data={tmp_path}/{days}.csv", *more)

    first, second = grown(100, "--rounds=2"), grown(120, "--rounds=30")
    with mlflow_at(server.uri):
        client = server.client
        outcomes = [promote(client, proposed(client, each["version"], "weighted")) for each in (first, second)]
        held = holdout.reload(client, second["run_id"])
        predictions = read(client, "weighted", second["version"], tmp_path).predict(held.frame)

    later = sales(120).iloc[3 * 96 :]
    np.testing.assert_array_equal(held.frame["size"], later["size"].astype(np.float32))
    np.testing.assert_array_equal(held.truth.weights, later["weight"])
    assert [each.outcome for each in outcomes] == ["promoted", "promoted"], outcomes[1].reason
    assert "72 rows were not used to train either model" in outcomes[1].reason
    west = second["metrics"]["holdout_rmse/shop/West_1"]
    errors = predictions - later["paid"].to_numpy()
    inside = (later["shop"] == "West/1").to_numpy()
    assert west == pytest.approx(np.average(errors[inside] ** 2, weights=later["weight"][inside]) ** 0.5)
    assert "the worst group is shop=" in outcomes[1].reason
    assert float(outcomes[1].evidence["value"]) == pytest.approx(second["metrics"]["holdout_rmse"])
