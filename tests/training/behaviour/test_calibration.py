"""A calibrated probability is the same in training, the service, scoring, the gate and a reproduction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from app.model.contract import CONTRACT_FILE, Contract
from tests.app.harness import serving, settings_for
from tests.training.conftest import Result, Server
from training.__main__ import main
from training.data.dataset import SplitSpec, load
from training.data.split import split
from training.tracking import registered
from training.tracking.mlflow_errors import mlflow_at
from training.train_options import TrainOptions

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
ROWS = 3000
# Ten times the weight of the rare class, which a notebook uses, makes its probability far too high.
OPTIONS = (
    "--target=left",
    "--rounds=30",
    "--early-stopping-rounds=0",
    "--folds=3",
    '--params={"scale_pos_weight": 10}',
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(ROWS, 3)).round(4), columns=["a", "b", "c"])
    chance = 1 / (1 + np.exp(-(1.5 * frame["a"] - frame["b"] - 2.5)))
    frame["left"] = np.where(draw.random(ROWS) < chance, "yes", "no")
    path = tmp_path_factory.mktemp("calibration") / "table.csv"
    frame.to_csv(path, index=False)
    return path


def expected(table: Path, method: str) -> tuple[Any, Any, Any]:
    """Return the raw and the calibrated probability of each row, and the held-out rows, by scikit-learn alone."""
    data = load(
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", f"--data={table}", *OPTIONS]).data_spec
    )
    parts = split(data, SplitSpec(folds=3))
    rows = pd.read_csv(table)[["a", "b", "c"]].to_numpy(np.float32)
    target = (pd.read_csv(table)["left"] == "yes").to_numpy(float)
    params = {
        "objective": "binary:logistic", "tree_method": "hist", "eval_metric": "logloss", "scale_pos_weight": 10,
        "max_depth": 4, "learning_rate": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "seed": 0,
    }  # fmt: skip

    def fitted(train: Any, asked: Any) -> Any:
        booster = xgb.train(params, xgb.DMatrix(rows[train], target[train]), 30)
        return booster.predict(xgb.DMatrix(rows[asked]))

    pairs = [(fitted(train, validation), target[validation]) for train, validation in parts.folds]
    scores, truth = (np.concatenate(each) for each in zip(*pairs, strict=True))
    raw = fitted(parts.rest, np.arange(ROWS)).astype(np.float64)
    if method == "isotonic":
        curve = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(scores, truth)
        return raw, curve.predict(raw), parts.holdout
    odds = [np.log(each / (1 - each))[:, None] for each in (scores.astype(np.float64), raw)]
    line = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(odds[0], truth)
    return raw, line.predict_proba(odds[1])[:, 1], parts.holdout


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probability_is_calibrated_everywhere(
    server: Server,
    command: Callable[..., Result],
    trained: Callable[..., dict[str, Any]],
    table: Path,
    tmp_path: Path,
    method: str,
) -> None:
    name = f"calibrated-{method}"
    made = trained(server, name, f"--data={table}", *OPTIONS, f"--calibration={method}")
    folder = server.model_folder(name, made["version"])
    raw, right, holdout = expected(table, method)
    truth = (pd.read_csv(table)["left"] == "yes").to_numpy(float)

    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    with serving(settings_for(folder.as_uri(), tmp_path)) as client:
        rows = pd.read_csv(table)[["a", "b", "c"]].to_numpy().tolist()
        answer = client.post("/predict", json={"columns": ["a", "b", "c"], "data": rows[:500]}).json()
        explained = client.post("/explain", json={"columns": ["a", "b", "c"], "data": rows[:3]}).json()
    shown = np.array([each["probabilities"]["yes"] for each in answer["predictions"]], dtype=np.float32)
    np.testing.assert_allclose(shown, right[:500], rtol=1e-5)
    explanations = [each["prediction"]["probabilities"]["yes"] for each in explained["explanations"]]
    assert explanations == [each["probabilities"]["yes"] for each in answer["predictions"][:3]]
    assert main(["score", f"--model-uri=file://{folder}", f"--data={table}", f"--output={tmp_path}/out"]) == 0
    scored = pq.read_table(next((tmp_path / "out").glob("part-*"))).column("probability_yes").to_numpy()
    np.testing.assert_array_equal(scored[:500].astype(np.float32), shown)
    with mlflow_at(server.uri):
        (tmp_path / "read").mkdir()
        known = registered.read(server.client, name, made["version"], tmp_path / "read")
        frame = pd.read_csv(table)[["a", "b", "c"]]
        np.testing.assert_array_equal(known.predict(frame)[:500].astype(np.float32), shown)
    # The mean square error says whether it helps: the weight of the class made it worse than the share of the class.
    before, after = (float(np.mean((each[holdout] - truth[holdout]) ** 2)) for each in (raw, right))
    assert after < truth[holdout].var() < before
    assert contract.metrics["brier"] == pytest.approx(after, rel=1e-4)
    assert made["metrics"]["holdout_brier"] == pytest.approx(after, rel=1e-4)
    reproduced = command("reproduce", made["uri"], f"--mlflow-tracking-uri={server.uri}")
    assert reproduced.code == 0
    assert reproduced.published["outcome"] == "identical"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("--task=regression", "--data=diabetes"), "only a binary model"),
        (("--data=wine",), "only a binary model"),
        (('--params={"objective": "binary:hinge"}',), "objective binary:logistic"),
    ],
)
def test_calibration_without_a_probability_is_refused(
    server: Server, run: Callable[..., Result], argv: tuple[str, ...], problem: str
) -> None:
    done = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=x", "--calibration=platt", *argv)

    assert done.code == 2
    assert problem in done.messages[-1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema_version": 1}, "schema_version 2"),
        ({"task": "regression", "classes": []}, "needs the task binary"),
        ({"calibration": {"method": "platt", "slope": -1, "intercept": 0}}, "greater than 0"),
        ({"calibration": {"method": "isotonic", "scores": [0.1, 0.2], "values": [0.3, 0.2]}}, "must not fall"),
        ({"calibration": {"method": "isotonic", "scores": [0.2, 0.1], "values": [0.2, 0.3]}}, "ascending order"),
        ({"calibration": {"method": "isotonic", "scores": [0.1], "values": []}}, "a value for each score"),
        ({"calibration": {"method": "beta"}}, "does not match any of the expected tags"),
    ],
)
def test_contradictory_calibration_is_refused(changes: dict[str, Any], problem: str) -> None:
    line = {"method": "platt", "slope": 0.7, "intercept": -1}
    contract = {"schema_version": 2, "task": "binary", "target": "y", "classes": ["a", "b"], "calibration": line}
    assert Contract.model_validate(contract).calibration

    with pytest.raises(ValidationError, match=problem):
        Contract.model_validate(contract | changes)
