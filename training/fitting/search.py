"""Hyperparameter search with Optuna. Each trial is a nested run in MLflow.

The runs also store the state of the search, which needs no disk: an interrupted search continues after its finished
trials. Each trial has a sampler with its own seed, so that a proposal depends only on the trials before it. A continued
search therefore has the same result as an uninterrupted one.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow
import numpy as np
import optuna
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from training.data.dataset import Data
from training.data.split import Split
from training.errors import InputError, Terminated
from training.fitting import fit
from training.fitting.search_space import Space, space_of
from training.progress import bar
from training.train_options import TrainOptions

_KEY_TAG, _NUMBER_TAG, _SCORE = "search.key", "search.trial", "validation_score"

log = logging.getLogger("training")


def search(
    data: Data, split: Split, params: Mapping[str, Any], options: TrainOptions, run_id: str, own: str = ""
) -> dict[str, Any]:
    """Return the parameters with the best validation score, by `own` if XGBoost does not have the metric.

    Raises:
        InputError: XGBoost refuses a parameter, or the validation metric is not finite.
        mlflow.exceptions.MlflowException: MLflow is unreachable or refuses.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    space = space_of(options.search_space)
    key = _key(data, split, params, options, own)
    study = optuna.create_study(direction="maximize" if fit.more_is_better(params, own) else "minimize")
    for number, (values, score) in enumerate(_finished(client, experiment, key, space)):
        if number < options.trials:
            study.add_trial(
                create_trial(state=TrialState.COMPLETE, params=values, distributions=dict(space), value=score)
            )
    if study.trials:
        log.info("the search continues after %d finished trials", len(study.trials))
    with bar("search", options.trials, "trial") as progress:
        progress.advance(len(study.trials))
        for number in range(len(study.trials), options.trials):
            study.sampler = optuna.samplers.TPESampler(seed=options.seed + number)
            trial = study.ask(dict(space))
            study.tell(
                trial, _trial(client, experiment, key, number, trial.params, data, split, params, options, run_id, own)
            )
            progress.advance(note=f"best {study.best_value:.5f}")
    mlflow.set_tags({_KEY_TAG: key})
    return dict(params) | study.best_params


def _trial(
    client: MlflowClient, experiment: str, key: str, number: int, values: dict[str, Any],
    data: Data, split: Split, params: Mapping[str, Any], options: TrainOptions, run_id: str,
    own: str,
) -> float:  # fmt: skip
    """Measure one proposal in its own run, and return the score."""
    tags = {MLFLOW_PARENT_RUN_ID: run_id, _KEY_TAG: key, _NUMBER_TAG: str(number)}
    nested = client.create_run(experiment, tags=tags, run_name=f"trial {number}").info.run_id
    status = "FAILED"
    try:
        for name, value in values.items():
            client.log_param(nested, name, repr(value))
        chosen = fit.choose_rounds(
            data, split, dict(params) | values, options.rounds, options.early_stopping_rounds, options.nthread, own
        )
        if not np.isfinite(chosen.score):
            raise InputError(
                f"--trials (TRAINING_TRIALS): the validation metric of trial {number} is not finite; set another "
                "--metric."
            )
        client.log_metric(nested, "rounds", chosen.rounds)
        client.log_metric(nested, _SCORE, chosen.score)
        status = "FINISHED"
    except (KeyboardInterrupt, Terminated):
        status = "KILLED"
        raise
    finally:
        client.set_terminated(nested, status)
    return chosen.score


def _finished(client: MlflowClient, experiment: str, key: str, space: Space) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the proposals and scores of the finished trials of this search in order, up to the first gap."""
    query = f"tags.`{_KEY_TAG}` = '{key}' and attributes.status = 'FINISHED'"
    runs = [run for run in client.search_runs([experiment], query, max_results=10_000) if _NUMBER_TAG in run.data.tags]
    by_number = {int(run.data.tags[_NUMBER_TAG]): run.data for run in runs}
    for number in range(len(by_number)):
        if (run := by_number.get(number)) is None:
            return
        kinds = {name: int if isinstance(each, IntDistribution) else float for name, each in space.items()}
        yield {name: kind(run.params[name]) for name, kind in kinds.items()}, float(run.metrics[_SCORE])


def _key(data: Data, split: Split, params: Mapping[str, Any], options: TrainOptions, own: str) -> str:
    """Return a digest of the settings that determine the scores of a search."""
    searched = space_of(options.search_space)
    fixed = {name: value for name, value in params.items() if name not in searched}
    space = {name: repr(each) for name, each in searched.items()}
    stopping = [options.rounds, options.early_stopping_rounds, own]
    parts = [data.sha256, options.split_spec.model_dump(), split.holdout_sha256, fixed, space, stopping]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
