"""A metric that is not finite is recorded as missing, and the model is published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.training.conftest import Result, Server

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
MAPE = '--params={"eval_metric": "mape"}'


def table(folder: Path, target: str) -> Path:
    """Write 200 rows whose target contains zeros, or numbers whose square is infinite as a 32-bit number."""
    x = np.random.default_rng(0).normal(size=200)
    y = np.where(x > 0, x, 0) if target == "zeros" else x * 1e25
    pd.DataFrame({"x": x, "y": y}).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.parametrize(
    ("target", "options", "metric"),
    [
        ("zeros", (MAPE,), "mape"),
        ("huge", (), "rmse"),
        ("huge", ("--checkpoints={folder}/checkpoints", "--folds=2"), "rmse"),
    ],
)
def test_metric_that_is_not_finite_does_not_lose_the_model(
    server: Server,
    run: Callable[..., Result],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    target: str,
    options: tuple[str, ...],
    metric: str,
) -> None:
    name = f"not-finite-{target}-{len(options)}"
    given = [f"--data={table(tmp_path, target)}", "--target=y", "--task=regression", "--rounds=9"]
    given += ["--early-stopping-rounds=3", *(each.replace("{folder}", str(tmp_path)) for each in options)]

    result = run(f"--mlflow-tracking-uri={server.uri}", f"--model-name={name}", *given)

    assert result.code == 0
    assert server.client.get_model_version(name, result.published["version"]).status == "READY"
    recorded = server.client.get_run(result.published["run_id"]).data
    assert "validation_score" not in recorded.metrics
    assert not [each for each in recorded.metrics if each.endswith(f"_{metric}") and not each.startswith("holdout_")]
    assert recorded.metrics["holdout_rmse"] == result.published["metrics"]["holdout_rmse"]
    assert recorded.metrics["rounds"] == 9, "the limit, because no round is better than another"
    assert "early stopping has no effect: " in caplog.text
    assert f"train_{metric}: 9 of 9 rounds have a value that is not finite" in caplog.text


def test_search_by_a_metric_that_is_not_finite_is_refused(
    server: Server, run: Callable[..., Result], tmp_path: Path
) -> None:
    given = [f"--data={table(tmp_path, 'zeros')}", "--target=y", "--task=regression", "--rounds=3", "--trials=2", MAPE]

    result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=not-finite-search", *given)

    assert result.code == 2
    assert result.messages[-1].startswith("--trials (TRAINING_TRIALS): the validation metric of trial 0 is not finite")
