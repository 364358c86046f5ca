"""Fits round by round, by several workers or by one that stores checkpoints."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.data.dataset import Data
from training.data.matrices import matrix, training_matrix
from training.data.split import Rows, Split
from training.fitting.boost import boost
from training.fitting.checkpoints import Checkpoints
from training.fitting.finite import last_if_none
from training.fitting.fit import Chosen, Fitted, chosen, more_is_better
from training.workers.group import Group


def choose_rounds(
    data: Data, parts: Split, params: Mapping[str, Any], rounds: int, patience: int, nthread: int, group: Group
) -> Chosen:
    """Return the mean over the folds of the number of rounds with the best validation score of all workers."""
    bests: list[int] = []
    scores: list[float] = []
    history: dict[str, list[float]] = {}
    sign = -1 if more_is_better(params) else 1
    for i, (train, validation) in enumerate(parts.folds):
        seen = _History("validation", patience, sign)
        watched = ((matrix(data, validation, nthread), "validation"),)
        boost(params, training_matrix(data, train, params, nthread), rounds, group=group, watched=watched, after=seen)
        best = seen.best if patience else len(seen.last) - 1
        scores.append(seen.last[best])
        bests.append(1 + (last_if_none(best, seen.last, rounds, seen.metric) if patience else best))
        history |= {f"fold{i}.{n}" if len(parts.folds) > 1 else n: values for n, values in seen.curves.items()}
    return chosen(bests, scores, history)


def fit(
    data: Data, rows: Rows, params: Mapping[str, Any], rounds: int, nthread: int, group: Group, kept: Checkpoints | None
) -> Fitted:
    """Fit with the other workers, if there are any. Each worker gets the same booster."""
    train, seen = training_matrix(data, rows, params, nthread), _History("train")
    given = dict(params) | {"nthread": nthread}
    booster = boost(given, train, rounds, group=group, watched=((train, "train"),), after=seen, checkpoints=kept)
    return Fitted(booster, dict(params), rounds, seen.curves)


class _History:
    """Metrics by round, and early stopping by the last metric."""

    def __init__(self, name: str, patience: int = 0, sign: int = 1) -> None:
        self._name, self._patience, self._sign = name, patience, sign
        self.curves: dict[str, list[float]] = {}

    def __call__(self, _: int, metrics: dict[str, float]) -> bool:
        for name, value in metrics.items():
            self.curves.setdefault(name.replace(f"{self._name}-", f"{self._name}_", 1), []).append(value)
        return bool(self._patience) and len(self.last) - 1 - self.best >= self._patience

    @property
    def last(self) -> list[float]:
        """The metric that early stopping uses."""
        return self.curves[self.metric]

    @property
    def metric(self) -> str:
        """The name of that metric."""
        return next(reversed(self.curves))

    @property
    def best(self) -> int:
        """Number of the best round, counted from 0."""
        values = self._sign * np.array(self.last)
        return int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
