"""Boost round by round, alone or with others, and go on from a checkpoint with the bytes that an undisturbed run has.

Each round draws its rows and columns by a seed of its own (`seed_per_iteration`): XGBoost does that by itself where
several workers train, and without it a run that goes on would draw others than the run that was cut off (measured:
other trees).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import xgboost as xgb
from xgboost.core import XGBoostError

from training.errors import InputError
from training.group import Group
from training.storage import Place, read, write

log = logging.getLogger(__name__)

# Called after each round with its number and the metrics by name; True ends the boosting.
AfterRound = Callable[[int, dict[str, float]], bool]


@dataclass(frozen=True)
class Checkpoints:
    """Where the booster is kept while it grows; only the first worker writes.

    Args:
        place: a folder that outlives the process.
        every: rounds between two of them.
        key: of everything that decides the model; a booster of another key is not gone on with.
    """

    place: Place
    every: int
    key: str

    @property
    def _name(self) -> str:
        return f"checkpoint-{self.key[:16]}.ubj"

    def last(self) -> bytes | None:
        """Return the file of the last one."""
        return read(self.place, self._name)

    def keep(self, booster: xgb.Booster) -> None:
        """Write the booster in place of the last one: the whole of it or nothing."""
        write(self.place, self._name, bytes(booster.save_raw("ubj")))

    def clear(self) -> None:
        """Forget the last one: the model is registered."""
        try:
            self.place.filesystem.delete_file(f"{self.place.path}/{self._name}")
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the checkpoint %s/%s stays: %s", self.place.uri, self._name, error)


def key(**decides: Any) -> str:
    """Return a digest of what decides a model."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


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
    """Return a booster of `rounds` rounds, or of fewer when `after` said so.

    Args:
        matrix: of this worker's rows.
        watched: what the metrics of each round are taken of, by name; of this worker's rows, too.

    Raises:
        InputError: XGBoost refuses a parameter.
        xgboost.core.XGBoostError: another worker was lost.
        TrainingError: a checkpoint cannot be written or read.
    """
    parameters = dict(parameters) | {"seed_per_iteration": True}
    try:
        return _boosted(parameters, matrix, rounds, group, watched, after, checkpoints)
    except XGBoostError as error:
        if "/collective/" in str(error):
            raise  # training.group knows what that means
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"XGBoost refuses these parameters for this data: {lines[0][:300]}") from None


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
        log.info("going on behind round %d of %d, from the checkpoint", booster.num_boosted_rounds(), rounds)
    for number in range(booster.num_boosted_rounds(), rounds):
        booster.update(matrix, number)
        if after and after(number, _metrics(booster, watched, number)):
            break
        if checkpoints and group.first and (number + 1) % checkpoints.every == 0:
            checkpoints.keep(booster)
    return booster


def _metrics(booster: xgb.Booster, watched: tuple[tuple[xgb.DMatrix, str], ...], number: int) -> dict[str, float]:
    """Return XGBoost's own metrics of a round, `<name>-<metric>`."""
    if not watched:
        return {}
    parts = booster.eval_set(list(watched), number).split("\t")[1:]
    return {name: float(value) for name, value in (part.rsplit(":", 1) for part in parts)}
