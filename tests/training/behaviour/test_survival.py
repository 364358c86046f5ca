"""Survival models from a public data set to the service and the gate, compared with plain pandas and XGBoost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from app.endpoints.schemas import predictions
from app.model.files import Provenance
from app.model.xgboost import load as load_model
from tests.training.conftest import Result, Server
from tests.training.gate.test_promote import RULES, proposed
from tests.training.lifelines_reference import reference
from training.data.dataset import load
from training.data.split import split
from training.errors import InputError
from training.fitting.pipeline import train
from training.gate.promote import promote
from training.train_options import TrainOptions
from training.workers.group import Group

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
# The plain code trains as many rounds as the command chose.
PARAMETERS = {"max_depth": 2, "learning_rate": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "seed": 0}
MEANINGS = {
    "survival:cox": ("survival_risk", "A higher one means an earlier event."),
    "survival:aft": ("survival_time", "Time until the event, in the unit of the target."),
}


def plain(table: pd.DataFrame, rows: Any, objective: str, rounds: int) -> xgb.Booster:
    """Train as a notebook would."""
    known = table.iloc[rows]
    features, weeks, arrested = known.drop(columns=["week", "arrest"]), known["week"], known["arrest"] == 1
    if objective == "survival:cox":
        matrix = xgb.DMatrix(features.astype("float32"), label=weeks.where(arrested, -weeks))
    else:
        matrix = xgb.DMatrix(features.astype("float32"))
        matrix.set_float_info("label_lower_bound", weeks)
        matrix.set_float_info("label_upper_bound", weeks.where(arrested, np.inf))
    return xgb.train({"objective": objective, "tree_method": "hist", **PARAMETERS}, matrix, rounds)


@pytest.mark.parametrize("objective", sorted(MEANINGS))
def test_rossi_is_trained_served_promoted_and_reproduced(
    server: Server,
    trained: Callable[..., dict[str, Any]],
    command: Callable[..., Result],
    objective: str,
) -> None:
    name, source = objective.replace(":", "-"), reference() / "rossi.csv"
    table = pd.read_csv(source)
    options = [f"--data={source}", "--target=week", "--event-column=arrest", "--max-depth=2"]
    options.append(f'--params={{"objective": "{objective}"}}')
    poor = trained(server, name, *options, "--rounds=1", "--early-stopping-rounds=0")
    good = trained(server, name, *options, "--rounds=60")
    mlflow.set_tracking_uri(server.uri)

    spec = TrainOptions.load("train", [f"--mlflow-tracking-uri={server.uri}", *options])
    parts = split(load(spec.data_spec), spec.split_spec)
    held = table.iloc[parts.holdout]
    own = plain(table, parts.rest, objective, int(good["metrics"]["rounds"])).predict(
        xgb.DMatrix(held.drop(columns=["week", "arrest"]).astype("float32"))
    )
    model = load_model(server.model_folder(name, good["version"]), Provenance(name, good["version"], good["uri"]))
    names = [column.name for column in model.signature.columns]
    served = model.booster.predict(model.signature.from_split(names, held[names].to_numpy().tolist()))
    assert np.array_equal(served[:, 0], own)
    task, sentence = MEANINGS[objective]
    assert model.contract
    assert (model.contract.task, model.contract.metric) == (task, "concordance")
    item = predictions(model)["properties"]["predictions"]["items"]
    assert item["type"] == "number"
    assert sentence in item["description"]
    assert not model.output.comparable
    assert good["metrics"]["holdout_concordance"] == pytest.approx(_concordance(held, own, task), abs=1e-9)
    assert model.contract.profile
    assert [each.name for each in model.contract.profile.predictions] == ["value"]

    history = server.client.get_metric_history(good["run_id"], "validation_concordance")
    assert max(each.value for each in history) == good["metrics"]["validation_score"]
    outcomes = [
        promote(
            server.client,
            replace(proposed(server.client, each["version"], name), rules=replace(RULES, metric="", margin=-1)),
        )
        for each in (poor, good)
    ]
    assert [each.outcome for each in outcomes] == ["promoted", "promoted"]
    assert "concordance is " in outcomes[1].reason
    again = command("reproduce", f"--mlflow-tracking-uri={server.uri}", good["uri"])
    assert (again.code, again.published["outcome"]) == (0, "identical")


def _concordance(held: pd.DataFrame, predicted: Any, task: str) -> float:
    """Return the concordance by its definition, pair by pair."""
    right = pairs = 0.0
    rows = list(zip(held["week"], held["arrest"], -predicted if task == "survival_risk" else predicted, strict=True))
    for week, arrest, first in rows:
        for other_week, other_arrest, second in rows:
            if arrest and (week < other_week or (week == other_week and not other_arrest)):
                pairs += 1
                right += 1.0 if first < second else 0.5 * float(first == second)
    return right / pairs


def test_several_workers_are_refused_before_the_training() -> None:
    options = TrainOptions.load(
        "train", ["--mlflow-tracking-uri=http://unused", "--data=unused", "--target=week", "--task=survival_risk"]
    )

    with pytest.raises(InputError, match="train a survival model with one worker"):
        train(options, Group(0, 2))
