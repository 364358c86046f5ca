"""From any table to the service: it loads the trained model and returns the predictions of the booster."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from app.model.files import Provenance
from app.model.xgboost import BoosterModel
from app.model.xgboost import load as load_model
from app.uri import ModelFolder
from training.data.dataset import Data, load
from training.data.matrices import matrix, predict
from training.data.split import identity, split
from training.environment import environment
from training.fitting import fit
from training.fitting.objectives import metric_name
from training.fitting.pipeline import Trained, distributions
from training.tracking import bundle
from training.tracking.publish import save
from training.train_options import TrainOptions
from training.workers.sharded_data import Judged

ROWS = 12
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=4).filter(
    lambda text: pd.to_numeric(pd.Series([text]), errors="coerce").isna().all()
)
COLUMNS = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(-(2.0**100), 2.0**100, width=32)), min_size=ROWS, max_size=ROWS),
    st.lists(st.integers(-(2**24), 2**24), min_size=ROWS, max_size=ROWS),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
    st.lists(st.one_of(st.none(), TEXTS), min_size=ROWS, max_size=ROWS),
    st.one_of(st.floats(-1, 1, width=32), st.just("one"), st.just(7), st.just(True)).map(lambda value: [value] * ROWS),
).filter(lambda values: any(value is not None for value in values))
TARGETS = {
    "binary": [i % 2 for i in range(ROWS)],
    "multiclass": ["abc"[i % 3] for i in range(ROWS)],
    "regression": [i * 0.75 for i in range(ROWS)],
    "ranking": [i % 3 for i in range(ROWS)],
}


def served(folder: Path, source: Path, *argv: str) -> tuple[Data, fit.Fitted, BoosterModel]:
    """Train as the command does, write the files that MLflow would store, and load them as a pod does."""
    options = TrainOptions.load(
        "train", ["--mlflow-tracking-uri=http://unused", f"--data={source}", "--rounds=3", "--nthread=1", *argv]
    )
    data = load(options.data_spec)
    parts = split(data, options.split_spec)
    metric = metric_name(data.task, options.params, options.metric)
    fitted = fit.fit(data, parts.rest, fit.parameters(data, options.booster_params, metric), options.rounds, 1)
    work = folder / "work"
    work.mkdir()
    judged = Judged(data, parts.holdout, predict(fitted.booster, data, parts.holdout, 1))
    trained = Trained(
        data,
        parts,
        identity(data, parts),
        fitted,
        fitted.history,
        {},
        distributions(data, parts, fitted),
        judged,
        metric,
    )
    bundle.write(work, "0", trained, options, environment("", 1))
    with warnings.catch_warnings(action="ignore"):  # from the imports of MLflow
        save(work, folder / "model")
    model_folder = ModelFolder(folder / "model")
    return data, fitted, load_model(model_folder.path, Provenance("m", "", "file:///m"))


def answers(data: Data, model: BoosterModel) -> Any:
    """Pass every row as JSON to the reader of the service."""
    rows = []
    for i in range(len(data.frame)):
        values: list[Any] = []
        for column in data.columns:
            value = data.frame[column.name].iloc[i]
            missing = value is None or value != value
            kinds = {"boolean": bool, "double": float, "long": int}
            values.append(None if missing else kinds.get(column.type, str)(value))
        rows.append(values)
    return model.booster.predict(model.signature.from_split([column.name for column in data.columns], rows))


@given(st.lists(COLUMNS, min_size=1, max_size=4), st.sampled_from(sorted(TARGETS)))
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_service_predicts_any_table_like_the_booster(columns: list[list[Any]], task: str) -> None:
    names = {f"c {i}": pa.array(values) for i, values in enumerate(columns)}
    table = pa.table(names | {"query": [i // 2 for i in range(ROWS)], "y": TARGETS[task]})
    group = "--group=query" if task == "ranking" else "--group="
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "table.parquet"
        pq.write_table(table, source)

        data, fitted, model = served(Path(work), source, "--target=y", f"--task={task}", group)

        own = fitted.booster.predict(matrix(data, np.arange(ROWS), 1)).reshape(ROWS, -1)
        assert np.array_equal(answers(data, model), own)
        assert model.contract
        assert model.contract.classes == data.classes


@pytest.mark.parametrize(
    ("source", "argv", "task", "shape"),
    [
        ("wine", (), "multiclass", {"label", "probabilities"}),
        ("diabetes", (), "regression", None),
        ("breast_cancer", (), "binary", {"label", "probabilities"}),
    ],
)
def test_built_in_data_are_served_with_labels(
    tmp_path: Path, source: str, argv: tuple[str, ...], task: str, shape: set[str] | None
) -> None:
    data, fitted, model = served(tmp_path, Path(source), *argv)

    rows = data.features[:5]
    predictions = model.predict(rows)
    own = fitted.booster.predict(matrix(data, np.arange(5), 1))

    assert model.output.task == task
    if shape is None:
        assert predictions == pytest.approx(own.tolist())
    else:
        assert set(predictions[0]) == shape
        assert list(predictions[0]["probabilities"]) == list(data.classes)
        expected = (own >= 0.5).astype(int) if own.ndim == 1 else own.argmax(axis=1)
        assert [each["label"] for each in predictions] == [data.classes[i] for i in expected]
