"""The rows that a model was not trained on, reloaded from their source.

Their digest is compared with that of the training. A copy of the rows with each run would expose personal data to all
users that may read a model, and a deletion request would have to find a person's row in every run.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd
from mlflow import MlflowClient

from app.model.dates import PARTS
from training.data import dataset as data
from training.data import split
from training.data.row_hash import Hashes, fractions
from training.data.row_times import RowTimes, parsed
from training.errors import InputError
from training.metrics.truth import Numbers, Truth
from training.tracking import manifest
from training.tracking.manifest import Manifest
from training.workers import shards


class HoldoutError(Exception):
    """The rows no longer exist or have changed. The message is a sentence without its full stop."""


@dataclass(frozen=True)
class Rule:
    """How a run chose its held-out rows.

    Args:
        sha256: Digest of the rows.
        key: Columns whose hash decided it. Empty if the rows were drawn.
        seed: Seed of the split.
        share: Share of the rows.
        time_column: Column of a split by time. Empty for other splits.
        time_from: First time of the holdout of a split by time.
    """

    sha256: str
    key: tuple[str, ...]
    seed: int
    share: float
    time_column: str = ""
    time_from: str = ""

    def fair_to(self, other: "Rule") -> bool:
        """Return whether the rows that both rules hold out were used to train neither model, in any table."""
        if self.sha256 == other.sha256:
            return True
        if self.time_column:
            alike = self.time_column == other.time_column
            return alike and parsed(self.time_from)[0] == parsed(other.time_from)[0]
        return bool(self.key) and (self.key, self.seed) == (other.key, other.seed)


@dataclass(frozen=True)
class Holdout:
    """Held-out rows with the columns of a model and their true values.

    Args:
        frame: Features, shape (rows, columns).
        truth: True values.
        rule: How the rows were chosen.
        fractions: Number of each row by the hash of its key, shape (rows,). None for a table without a key.
        times: Time of each row. None if the split is not by time.
        slices: Groups of each row, shape (rows, columns). None if the training did not name any.
    """

    frame: pd.DataFrame
    truth: Truth
    rule: Rule
    fractions: Numbers | None = None
    times: RowTimes | None = None
    slices: pd.DataFrame | None = None

    def unseen_by(self, other: Rule) -> "Holdout":
        """Return the rows that the model of a fair rule has not seen either, which may be fewer."""
        if self.rule.sha256 == other.sha256:
            return self
        if self.times is not None:
            kept = self.times.values >= parsed(other.time_from)[1]
        elif self.fractions is not None and other.share < self.rule.share:
            kept = self.fractions < other.share
        else:
            return self
        slices = None if self.slices is None else self.slices[kept]
        truth = self.truth.rows(kept)
        return replace(self, frame=self.frame[kept], truth=truth, fractions=None, times=None, slices=slices)


def rule(client: MlflowClient, run_id: str) -> Rule | None:
    """Return how a run chose its held-out rows, or None if it did not record that."""
    try:
        return _rule(manifest.read(client, run_id)) if run_id else None
    except InputError:
        return None


def reload(client: MlflowClient, run_id: str) -> Holdout:
    """Return the rows that a run held out, after a check that the data have not changed.

    Raises:
        HoldoutError: The data have changed, or cannot be read.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    if not run_id:
        raise HoldoutError("it has no run, and therefore no record of its held-out rows: name a data set with --data")
    try:
        known = manifest.read(client, run_id)
        loaded = _alone(known) if known.world_size == 1 else _sharded(known)
    except InputError as error:
        why = str(error).rstrip(".")
        raise HoldoutError(f"its held-out rows cannot be reloaded: {why}; --data can name others") from None
    if loaded.sha256 != known.data.sha256:
        now = f"{known.data.spec.source} now has the digest {loaded.sha256[:12]}"
        raise HoldoutError(f"its data have changed: it was trained on {known.data.sha256[:12]}, {now}")
    hashes = None if loaded.key_hashes is None else fractions(loaded.key_hashes, known.split.spec.seed)
    return Holdout(loaded.frame, loaded.truth, _rule(known), hashes, loaded.times, loaded.slices)


class _Loaded(NamedTuple):
    """Held-out rows, and the digest of all data."""

    frame: pd.DataFrame
    truth: Truth
    key_hashes: Hashes | None
    times: RowTimes | None
    slices: pd.DataFrame | None
    sha256: str


def _alone(known: Manifest) -> _Loaded:
    spec = known.data.spec
    loaded = data.load(spec)
    frame = loaded.frame
    if spec.min_category_count > 1 or spec.dates:  # the other model may know rare categories, and other parts of dates
        frame = data.load(spec.model_copy(update={"min_category_count": 1, "date_parts": PARTS})).frame
    rows = split.split(loaded, known.split.spec).holdout
    truth = loaded.truth.rows(rows)
    hashes = None if loaded.key_hashes is None else loaded.key_hashes[rows]
    times = None if loaded.times is None else loaded.times.of(rows)
    slices = None if loaded.slices is None else loaded.slices.iloc[rows]
    return _Loaded(frame.iloc[rows], truth, hashes, times, slices, loaded.sha256)


def _sharded(known: Manifest) -> _Loaded:
    found = shards.held_out(known.data.spec, known.split.spec, known.world_size)
    truth = Truth.of(found.target, None, found.weights)
    return _Loaded(found.frame, truth, found.key_hashes, found.times, None, found.sha256)


def _rule(known: Manifest) -> Rule:
    """Return the rule of a run. Its digest covers the data, because equal row numbers in other data are other rows."""
    sha256 = hashlib.sha256(f"{known.data.sha256} {known.split.holdout_sha256}".encode()).hexdigest()
    spec = known.split.spec
    return Rule(
        sha256, known.split.key, spec.seed, spec.holdout_share, known.data.spec.time_column, known.split.time_from
    )
