"""All files of a finished training in one folder, before MLflow hears of any: what is uploaded, at once or later."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.contract import CONTRACT_FILE, MODEL_FILE, Contract
from training import evaluate
from training.data import Data
from training.fit import Fitted, matrix
from training.machine import Environment
from training.manifest import MANIFEST_FILE, DataFacts, Manifest, SplitFacts
from training.options import TrainOptions
from training.profile import Feature, predictions_of, profile_of, score_edges_of
from training.split import Split

RECORD_FILE = "record.json"
PICTURES = "evaluation"
_EXAMPLES_LOOKED_AT = 1000


class Record(BaseModel):
    """What MLflow is told besides the files, and the version that is registered."""

    model_config = ConfigDict(frozen=True)

    mlflow_tracking_uri: str
    model_name: str
    alias: str
    run_id: str
    sha256: str
    source: str
    params: dict[str, str]
    metrics: dict[str, float]
    history: dict[str, list[float]]
    tags: dict[str, str]
    version_tags: dict[str, str]
    example: dict[str, Any]


def write(
    folder: Path,
    run_id: str,
    data: Data,
    split: Split,
    fitted: Fitted,
    history: Mapping[str, Sequence[float]],
    chosen: Mapping[str, float],
    options: TrainOptions,
    environment: Environment,
) -> Record:
    """Measure the booster and write everything about the run into the folder, which is empty.

    Args:
        folder: where to.
        run_id: of MLflow.
        data: that was trained on.
        split: of the data.
        fitted: the booster.
        history: metrics by round, of the fit and of what chose the rounds.
        chosen: metrics of what chose rounds and parameters.
        options: of the run.
        environment: that it runs in.

    Raises:
        OSError: no room or no right to write there.
    """
    content = fitted.ubj
    sha256 = hashlib.sha256(content).hexdigest()
    output = fitted.booster.predict(matrix(data, split.holdout, options.nthread))
    measured = evaluate.measure(data, split.holdout, output)
    metrics = measured | dict(chosen) | {"rounds": fitted.rounds}
    manifest = Manifest(
        model_name=options.model_name,
        run_id=run_id,
        data=DataFacts(
            spec=data.spec,
            name=data.name,
            raw_sha256=data.raw_sha256,
            sha256=data.sha256,
            rows=data.rows,
            columns=tuple(data.frame.columns),
            target=data.target_name,
            task=data.task,
            classes=data.classes,
        ),
        split=SplitFacts(
            spec=options.split_spec,
            rule=split.rule,
            holdout_sha256=split.holdout_sha256,
            holdout_rows=len(split.holdout),
        ),
        params=fitted.params,
        rounds=fitted.rounds,
        world_size=data.shared[0],
        shard_rule=data.shared[1],
        model_sha256=sha256,
        metrics=metrics,
        environment=environment,
    )
    row, example = _example(data, split)
    answer = fitted.booster.predict(matrix(data, row, 1))
    truth = data.target[split.holdout] if data.task == "binary" else None
    contract = Contract(
        task=data.task,
        target=data.target_name,
        classes=data.classes,
        columns=data.columns,
        example_output=tuple(tuple(map(float, np.atleast_1d(each))) for each in answer),
        metrics={name.removeprefix("holdout_"): value for name, value in measured.items()},
        profile=profile_of(
            [Feature(column.name, column.categories) for column in data.columns],
            data.features_of(split.rest),
            evaluate.importance(fitted.booster),
            predictions_of(data.task, data.classes, output, truth),
            score_edges_of(output) if truth is not None else (),
        ),
    )
    record = Record(
        mlflow_tracking_uri=options.mlflow_tracking_uri,
        model_name=options.model_name,
        alias=options.alias,
        run_id=run_id,
        sha256=sha256,
        source=data.spec.source.partition("?")[0],
        params=_strings(options.recorded | fitted.params | {"rounds": fitted.rounds, "rounds_limit": options.rounds}),
        metrics=metrics,
        history={name: list(values) for name, values in history.items()},
        tags=_tags(manifest),
        version_tags=_version_tags(manifest),
        example=example,
    )
    (folder / MODEL_FILE).write_bytes(content)
    for name, model in ((CONTRACT_FILE, contract), (MANIFEST_FILE, manifest)):
        (folder / name).write_text(model.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / PICTURES).mkdir()
    evaluate.draw(data, split.holdout, output, fitted.booster, history, folder / PICTURES)
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")  # last: it is whole
    return record


def _example(data: Data, split: Split) -> tuple[Any, dict[str, Any]]:
    """Return the number of the held-out row with the fewest missing values, and its values by column."""
    rows = split.holdout[:_EXAMPLES_LOOKED_AT]
    row = int(rows[data.frame.iloc[rows].isna().sum(axis=1).to_numpy().argmin()])
    values: dict[str, Any] = {}
    for column in data.columns:
        value = data.frame[column.name].iloc[row]
        if value is None or value != value:
            values[column.name] = None
        elif column.categories:
            values[column.name] = value if isinstance(value, str) else int(value)
        elif column.type == "boolean":
            values[column.name] = bool(value)
        else:
            values[column.name] = float(str(value))  # the shortest number that is this one in 32 bits
    return np.array([row]), values


def _tags(manifest: Manifest) -> dict[str, str]:
    """What the run is found by: which data and which environment made the model."""
    data, environment = manifest.data, manifest.environment
    return {
        "task": data.task,
        "target": data.target,
        "data.name": data.name,
        "data.source": data.spec.source.partition("?")[0],
        "data.raw_sha256": data.raw_sha256,
        "data.sha256": data.sha256,
        "data.holdout_sha256": manifest.split.holdout_sha256,
        "git.dirty": str(environment.git_dirty).lower(),
        "model.sha256": manifest.model_sha256,
    } | environment.tags()


def _version_tags(manifest: Manifest) -> dict[str, str]:
    """What the registry is searched by; the first three are what the service tells of itself."""
    data, environment = manifest.data, manifest.environment
    tags = {
        "sha256": manifest.model_sha256,
        "data_digest": data.sha256,
        "git_commit": environment.git_commit,
        "task": data.task,
        "target": data.target,
        "data_name": data.name,
        "holdout_digest": manifest.split.holdout_sha256,
        "image": environment.image,
    }
    return {name: value for name, value in tags.items() if value}


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return {name: text for name, text in texts.items() if text}
