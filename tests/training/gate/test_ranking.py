"""A ranking from the file to the gate: trained, measured and judged by whole queries."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from tests.training.conftest import Server
from tests.training.gate.test_promote import RULES, proposed
from training.gate import holdout
from training.gate.promote import promote
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.registered import read

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
NAME, QUERIES, OF_EACH = "ranked", 100, 8


def test_ranking_is_trained_measured_and_judged_by_query(
    server: Server, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    drawn = np.random.default_rng(0)
    table = pd.DataFrame(drawn.random((QUERIES * OF_EACH, 4)), columns=list("abcd"))
    table["query"] = [f"q{i}" for i in np.tile(np.arange(QUERIES), OF_EACH)]  # rows of a query are not adjacent
    table["grade"] = (table["a"] * 2 + table["b"] * table["c"] + drawn.random(len(table)) / 4).round().astype(int)
    table.to_csv(tmp_path / "clicks.csv", index=False)
    options = (f"--data={tmp_path}/clicks.csv", "--target=grade", "--task=ranking", "--group=query")
    poor, good = (
        trained(server, NAME, *options, "--early-stopping-rounds=0", f"--rounds={rounds}", f"--max-depth={depth}")
        for rounds, depth in ((1, 1), (60, 4))
    )
    mlflow.set_tracking_uri(server.uri)

    outcomes = [
        promote(
            server.client,
            replace(proposed(server.client, each["version"], NAME), rules=replace(RULES, metric="ndcg")),
        )
        for each in (poor, good, poor)
    ]

    assert [each.outcome for each in outcomes] == ["promoted", "promoted", "refused"]
    assert "ndcg is " in outcomes[2].reason
    with mlflow_at(server.uri):
        held = holdout.reload(server.client, good["run_id"])
        model = read(server.client, NAME, good["version"], tmp_path)
        scores = model.predict(held.frame)
    groups = held.truth.groups
    assert groups is not None
    assert set(np.bincount(groups)[np.unique(groups)]) == {OF_EACH}, "whole queries are held out"
    own = [
        ndcg_score([2 ** held.truth.target[groups == each] - 1], [scores[groups == each]]) for each in np.unique(groups)
    ]
    assert good["metrics"]["holdout_ndcg"] == pytest.approx(np.mean(own), abs=1e-6)
