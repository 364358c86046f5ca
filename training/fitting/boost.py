"""The boosting loop, alone or with other workers, which continues from a checkpoint.

A continued run produces the same bytes as an uninterrupted one. For that, each round samples its rows and columns with
its own seed (`seed_per_iteration`), which XGBoost sets by itself for several workers. Without it, a continued run
samples different rows and columns (measured: different trees).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import xgboost as xgb
from xgboost.core import XGBoostError

from training.fitting.checkpoints import Checkpoints
from training.fitting.parameter_check import refusal
from training.workers.group import Group

log = logging.getLogger(__name__)

# Called after each round with its number and the metrics by name. Returns True to end the boosting.
AfterRound = Callable[[int, dict[str, float]], bool]


def boost(
    parameters: Mapping[str, Any],
    matrix: xgb.DMatrix,
    rounds: int,
    *,
    group: Group,
    watched: tuple[tuple[xgb.DMatrix, str], ...] = (),
    after: AfterRound | None = None,
    checkpoints: Checkpoints | None = None,
) -> xgb.Booster:
    """Return a booster with `rounds` rounds, or fewer if `after` ended the boosting.

    Args:
        parameters: Parameters of XGBoost.
        matrix: Rows of this worker.
        rounds: Number of rounds.
        group: The workers that train together.
        watched: Matrices of this worker, with their names, for which metrics are computed in each round.
        after: Called after each round.
        checkpoints: Where to store checkpoints, if anywhere.

    Raises:
        InputError: XGBoost refuses a parameter.
        xgboost.core.XGBoostError: Another worker was lost.
        TrainingError: A checkpoint cannot be written or read.
    """
    parameters = dict(parameters) | {"seed_per_iteration": True}
    try:
        return _boosted(parameters, matrix, rounds, group, watched, after, checkpoints)
    except XGBoostError as error:
        if "/collective/" in str(error):
            raise  # training.workers.group translates it
        raise refusal(error) from None


def _boosted(
    parameters: dict[str, Any],
    matrix: xgb.DMatrix,
    rounds: int,
    group: Group,
    watched: tuple[tuple[xgb.DMatrix, str], ...],
    after: AfterRound | None,
    checkpoints: Checkpoints | None,
) -> xgb.Booster:
    cached = [matrix, *(each for each, _ in watched)]
    booster = xgb.Booster(parameters, cached)
    last = group.from_first(checkpoints.last() if checkpoints and group.first else None) if checkpoints else None
    if last:
        booster.load_model(bytearray(last))
        booster.set_param(parameters)
        log.info("continuing after round %d of %d, from the checkpoint", booster.num_boosted_rounds(), rounds)
    for number in range(booster.num_boosted_rounds(), rounds):
        booster.update(matrix, number)
        if after and after(number, _metrics(booster, watched, number)):
            break
        if checkpoints and group.first and (number + 1) % checkpoints.every == 0:
            checkpoints.keep(booster)
    return booster


def _metrics(booster: xgb.Booster, watched: tuple[tuple[xgb.DMatrix, str], ...], number: int) -> dict[str, float]:
    """Return XGBoost's metrics of a round by `<name>-<metric>`."""
    if not watched:
        return {}
    parts = booster.eval_set(list(watched), number).split("\t")[1:]
    return {name: float(value) for name, value in (part.rsplit(":", 1) for part in parts)}
