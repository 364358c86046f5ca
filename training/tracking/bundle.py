"""The files of a finished training in one folder, which are uploaded to MLflow immediately or later."""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH
from pydantic import BaseModel, ConfigDict

from app.model.calibration import calibrated
from app.model.contract import CONTRACT_FILE, MODEL_FILE, Contract, Profile
from training.data.dataset import Data
from training.data.matrices import predict
from training.data.split import Split
from training.environment import Environment
from training.fitting import evaluate, plots
from training.fitting.finite import finite, finite_curves
from training.fitting.group_metrics import measure_groups
from training.fitting.pipeline import Trained
from training.fitting.reference_profile import predictions_of, score_edges_of
from training.tracking.data_report import REPORT_FILE, page
from training.tracking.manifest import MANIFEST_FILE, DataFacts, Manifest, SplitFacts
from training.train_options import TrainOptions

RECORD_FILE = "record.json"
PICTURES = "evaluation"
_EXAMPLES_LOOKED_AT = 1000

log = logging.getLogger("training")


class Record(BaseModel):
    """Data for MLflow in addition to the files: parameters, metrics and tags of the run, and tags of the version."""

    model_config = ConfigDict(frozen=True)

    mlflow_tracking_uri: str
    model_name: str
    run_id: str
    source: str
    params: dict[str, str]
    metrics: dict[str, float]
    history: dict[str, list[float | None]]
    tags: dict[str, str]
    version_tags: dict[str, str]
    example: dict[str, Any]
    key: str = ""


def write(folder: Path, run_id: str, trained: Trained, options: TrainOptions, environment: Environment) -> Record:
    """Measure the booster, and write all files of the run.

    Args:
        folder: Folder of the run.
        run_id: Run in MLflow.
        trained: The booster and its data.
        options: Options of the run.
        environment: Environment of the run.

    Raises:
        OSError: There is no room or no permission to write.
    """
    data, split, identity, fitted = trained.data, trained.parts, trained.identity, trained.fitted
    judged = trained.judged
    content = fitted.ubj
    sha256 = hashlib.sha256(content).hexdigest()
    output = judged.output
    if trained.calibration:
        output = calibrated(output, trained.calibration)
    measured = evaluate.measure(judged.data, judged.rows, output, trained.metric)
    by_group = measure_groups(judged.data, judged.rows, output, trained.metric)
    metrics = measured | by_group | finite(trained.chosen) | {"rounds": fitted.rounds}
    manifest = Manifest(
        model_name=options.model_name,
        run_id=run_id,
        data=DataFacts(
            spec=data.spec,
            name=data.name,
            raw_sha256=identity.raw_sha256,
            sha256=identity.sha256,
            file_sha256=dict(data.files),
            column_sha256=data.column_sha256 if identity.workers == 1 else {},
            rows=identity.rows,
            columns=tuple(data.frame.columns),
            target=data.target_name,
            task=data.task,
            classes=data.classes,
        ),
        split=SplitFacts(
            spec=options.split_spec,
            rule=split.rule,
            key=data.key,
            time_from=split.time_from,
            holdout_sha256=identity.holdout_sha256,
            holdout_rows=len(judged.rows),
        ),
        params=fitted.params,
        rounds=fitted.rounds,
        metric=trained.metric,
        calibration=options.calibration,
        world_size=identity.workers,
        shard_rule=identity.shard_rule,
        model_sha256=sha256,
        metrics=metrics,
        environment=environment,
    )
    row, example = _example(data, split)
    answer = predict(fitted.booster, data, row, 1)
    truth = judged.data.target[judged.rows] if data.task == "binary" else None
    contract = Contract(
        schema_version=2 if trained.calibration else 1,
        task=data.task,
        target=data.target_name,
        classes=data.classes,
        columns=data.columns,
        null_words=data.spec.null_words,
        unknown_category=options.unknown_category,
        metric=trained.metric,
        calibration=trained.calibration,
        example_output=tuple(tuple(map(float, np.atleast_1d(each))) for each in answer),
        metrics={name.removeprefix("holdout_"): value for name, value in measured.items()},
        profile=Profile(
            created_at=datetime.now(UTC),
            features=trained.variables,
            predictions=predictions_of(data.task, data.classes, output, truth),
            score_edges=score_edges_of(output) if truth is not None else (),
        ),
    )
    record = Record(
        mlflow_tracking_uri=options.mlflow_tracking_uri,
        model_name=options.model_name,
        run_id=run_id,
        source=data.spec.source.partition("?")[0],
        params=_strings(options.recorded | fitted.params | {"rounds": fitted.rounds, "rounds_limit": options.rounds}),
        metrics=metrics,
        history=finite_curves({name.replace("@", "_"): each for name, each in trained.history.items()}),  # for MLflow
        tags=_tags(manifest),
        version_tags=_version_tags(manifest),
        example=example,
        key=options.key,
    )
    (folder / MODEL_FILE).write_bytes(content)
    for name, model in ((CONTRACT_FILE, contract), (MANIFEST_FILE, manifest)):
        (folder / name).write_text(model.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / REPORT_FILE).write_text(page(trained, run_id), encoding="utf-8")
    (folder / PICTURES).mkdir()
    plots.draw(judged.data, judged.rows, output, fitted.booster, trained.history, folder / PICTURES)
    (folder / RECORD_FILE).write_text(
        record.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )  # last, so that its existence means that all files are complete
    return record


def _example(data: Data, split: Split) -> tuple[Any, dict[str, Any]]:
    """Return the number of this worker's held-out row with the fewest missing values, and its values by column."""
    rows = (split.holdout if len(split.holdout) else split.rest)[:_EXAMPLES_LOOKED_AT]
    row = int(rows[data.frame.iloc[rows].isna().sum(axis=1).to_numpy().argmin()])
    values: dict[str, Any] = {}
    for column in data.columns:
        value = data.moments[column.name][row] if column.parts else data.frame[column.name].iloc[row]
        if value is None or value != value:
            values[column.name] = None
        elif column.parts:
            values[column.name] = str(np.datetime64(int(value), "s"))
        elif column.categories:
            values[column.name] = value if isinstance(value, str) else int(value)
        elif column.type == "boolean":
            values[column.name] = bool(value)
        else:
            values[column.name] = float(str(value))  # the shortest number with the same 32-bit value
    return np.array([row]), values


def _tags(manifest: Manifest) -> dict[str, str]:
    """Return the tags of the run: data and environment of the model."""
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
    """Return the tags of the version, in addition to its digest. The service reports the first two."""
    data, environment = manifest.data, manifest.environment
    tags = {
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
    """Return the values as text of the length that MLflow accepts. Warn about those that are cut."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    for name, text in texts.items():
        if len(text) > MAX_PARAM_VAL_LENGTH:
            log.warning(
                "parameter %s: MLflow shows the first %d of %d characters; %s contains the whole value",
                name, MAX_PARAM_VAL_LENGTH, len(text), MANIFEST_FILE,
            )  # fmt: skip
    return {name: text[:MAX_PARAM_VAL_LENGTH] for name, text in texts.items() if text}
