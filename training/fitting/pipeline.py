"""The steps from a table to a booster: load, split, search, choose the rounds, fit."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.model.contract import Isotonic, Platt, Variable
from training.data import dataset, split
from training.data.dataset import Data
from training.data.matrices import matrix
from training.data.preprocessing import numbers
from training.data.split import Identity, Split
from training.errors import InputError
from training.fitting import fit, resumable_fit
from training.fitting.calibrate import calibrate, check_calibration
from training.fitting.checkpoints import Checkpoints, checkpoints_of
from training.fitting.collected_warnings import collected
from training.fitting.evaluate import importance
from training.fitting.fit import Fitted
from training.fitting.leak_warnings import warn_of_leaks
from training.fitting.objectives import check_objective, metric_name
from training.fitting.parameter_check import check_used
from training.fitting.reference_profile import Feature, variables_of
from training.fitting.search import search
from training.fitting.search_space import lowest, space_of
from training.train_options import SURVIVAL, TrainOptions
from training.workers import sharded_data
from training.workers.group import ALONE, Group
from training.workers.sharded_data import Judged, ShardedData

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A fitted booster with its data.

    Args:
        data: Data to record.
        parts: Split of the data.
        identity: Digests and row count of the complete training data.
        fitted: The booster.
        history: Metrics by round, of the choice of the rounds and of the fit.
        chosen: Metrics of the choice of the rounds.
        metric: Metric by which the model is judged. Empty for the defaults of the task.
        variables: Distributions of the features in the training rows of all workers.
        judged: Held-out rows of all workers with their predictions, before a calibration.
        kept: Checkpoints, to be cleared after the registration.
        calibration: Calibration of the probability, if any.
        warnings: Sentences about the data.
    """

    data: Data
    parts: Split
    identity: Identity
    fitted: Fitted
    history: dict[str, list[float]]
    chosen: dict[str, float]
    variables: tuple[Variable, ...]
    judged: Judged
    metric: str = ""
    kept: Checkpoints | None = None
    calibration: Platt | Isotonic | None = None
    warnings: Sequence[str] = ()


def train(options: TrainOptions, group: Group, run_id: str = "") -> Trained:
    """Train a booster, alone or as one worker of a group on its shard of the rows.

    Args:
        options: Options of the run.
        group: The workers that train together.
        run_id: MLflow run that records the search.

    Raises:
        TrainingError: The data or the options cannot be used.
    """
    alone = group.size == 1
    with collected() as warnings:
        whole = _loaded(options, group)
        data, parts = whole.data, whole.parts
        log.info("%d rows, %d columns, %s of %s", *data.frame.shape, data.task, data.target_name)
        if alone:
            warn_of_leaks(data, parts)
    check_objective(data.task, options.params)
    check_calibration(options.calibration, data.task, options.params, group.size)
    metric = metric_name(data.task, options.params, options.metric)
    params, rounds = fit.parameters(data, options.booster_params, metric), options.rounds
    own = fit.own_metric(data, params, metric)
    if options.checkpoints or not alone:
        params |= {"seed_per_iteration": True}  # recorded, because it changes the model: see training.fitting.boost
    searched = lowest(space_of(options.search_space)) if options.trials else {}
    check_used(params | searched, matrix(data, np.arange(min(1, len(data.target))), 1))
    chosen: dict[str, float] = {}
    history: dict[str, list[float]] = {}
    if options.trials and not alone:
        raise InputError("--trials (TRAINING_TRIALS): search with one worker, then train with several.")
    if options.trials:
        params = search(data, parts, params, options, run_id, own)
    if options.early_stopping_rounds or options.folds > 1:
        asked = data, parts, params, options.rounds, options.early_stopping_rounds, options.nthread
        if own and not alone:
            raise InputError(
                f"--metric (TRAINING_METRIC): early stopping by {own} works with one worker only, because XGBoost does "
                "not compute it; use another metric, or set --early-stopping-rounds=0."
            )
        found = fit.choose_rounds(*asked, own) if alone else resumable_fit.choose_rounds(*asked, group)
        rounds, history = found.rounds, dict(found.history)
        chosen = {"validation_score": found.score, "validation_spread": found.spread}
    kept = None
    if alone and not options.checkpoints:
        fitted = fit.fit(data, parts.rest, params, rounds, options.nthread)
    else:
        kept = checkpoints_of(options, whole.identity, params, rounds, group)
        fitted = resumable_fit.fit(data, parts.rest, params, rounds, options.nthread, group, kept)
    calibration = calibrate(data, parts, params, rounds, options.nthread, options.calibration)
    judged = sharded_data.judge(whole, fitted.booster, options.nthread, group)
    variables = distributions(data, parts, fitted, group)
    measured = history | fitted.history, chosen, variables, judged, metric
    return Trained(data, parts, whole.identity, fitted, *measured, kept, calibration, warnings)


def distributions(data: Data, parts: Split, fitted: Fitted, group: Group = ALONE) -> tuple[Variable, ...]:
    """Return the distributions of the features in the training rows of all workers."""
    categories = {column.name: column.categories for column in data.columns}
    features = [Feature(name, categories.get(name, ())) for name in data.frame.columns]
    columns = (numbers(data.frame[name])[parts.rest] for name in data.frame.columns)
    return variables_of(features, columns, importance(fitted.booster), group)


def _loaded(options: TrainOptions, group: Group) -> ShardedData:
    if group.size > 1:
        if options.from_log:
            raise InputError("--from-log (TRAINING_FROM_LOG): train with one worker; the log is read as a whole.")
        if options.survival_task in SURVIVAL.values():
            raise InputError(
                "--task (TRAINING_TASK): train a survival model with one worker, because its objective and concordance "
                "compare each row with all others."
            )
        return sharded_data.load(options.data_spec, options.split_spec, group)
    data = dataset.load(options.data_spec)
    parts = split.split(data, options.split_spec)
    return ShardedData(data, parts, split.identity(data, parts))
