"""Checkpoints of a growing booster."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import xgboost as xgb

from training.data.split import Identity
from training.data.storage import Place, place, read, write
from training.train_options import TrainOptions
from training.workers.group import Group

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The stored state of a growing booster. Only the first worker writes it.

    Args:
        place: A folder that outlives the process.
        every: Number of rounds between two checkpoints.
        key: Digest of all settings. Checkpoints with a different key are ignored.
    """

    place: Place
    every: int
    key: str

    @property
    def _name(self) -> str:
        return f"checkpoint-{self.key[:16]}.ubj"

    def last(self) -> bytes | None:
        """Return the content of the last checkpoint, or None."""
        return read(self.place, self._name)

    def keep(self, booster: xgb.Booster) -> None:
        """Replace the last checkpoint atomically."""
        write(self.place, self._name, bytes(booster.save_raw("ubj")))

    def clear(self) -> None:
        """Delete the last checkpoint, after the model is registered."""
        try:
            self.place.filesystem.delete_file(f"{self.place.path}/{self._name}")
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the checkpoint %s/%s cannot be deleted: %s", self.place.uri, self._name, error)


def key(**decides: Any) -> str:
    """Return a digest of the settings that determine a model."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def checkpoints_of(
    options: TrainOptions, data: Identity, params: Mapping[str, Any], rounds: int, group: Group
) -> Checkpoints | None:
    """Return the checkpoints of a run, or None if the options do not ask for them."""
    if not options.checkpoints:
        return None
    decides = key(
        params=dict(params),
        rounds=rounds,
        data=data.sha256,
        holdout=data.holdout_sha256,
        time_gap=options.time_gap,  # decides the other rows
        workers=group.size,
        xgboost=version("xgboost-cpu"),
    )
    return Checkpoints(place(options.checkpoints), options.checkpoint_rounds, decides)
