"""Prepare one worker's share of the training data, and bring together what the first worker records of the whole.

Each worker holds the features of its own row groups, and of all rows only the target. Of the others it learns which
categories their columns have and which rows are held out, so that all split the same rows apart as one worker alone
would. The first worker also gets the features of the held-out rows: it measures, and MLflow is told once.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import shards, shares
from training.data import Data, DataSpec, SplitSpec
from training.group import Group
from training.parquets import Parquets
from training.split import Rows, Split, split
from training.storage import place


@dataclass(frozen=True)
class SharedData(Data):
    """Data of one worker that stand for the whole: the digest and the number of rows are those of all workers."""

    digest: str = ""
    rows_in_all: int = 0
    workers: int = 1

    @property
    def sha256(self) -> str:
        """Digest of all workers' digests, in their order."""
        return self.digest

    @property
    def rows(self) -> int:
        """Rows of all workers."""
        return self.rows_in_all

    @property
    def shared(self) -> tuple[int, str]:
        """How many workers there are, and which rows each has."""
        return self.workers, shards.RULE


@dataclass(frozen=True)
class SharedSplit(Split):
    """Row numbers within one worker's data; the digest is of the numbers in the whole."""

    digest: str = ""

    @property
    def holdout_sha256(self) -> str:
        """Digest of the held-out rows' numbers in the whole data set, the same that one worker alone would record."""
        return self.digest


def load(spec: DataSpec, split_spec: SplitSpec, group: Group) -> tuple[SharedData, SharedSplit]:
    """Read and prepare this worker's rows.

    Raises:
        InputError: the data cannot be used by several workers, or at all.
        TrainingError: it cannot be read now.
    """
    whole = shares.whole(spec)
    share = whole.share(group)
    # What the others have of categories is learned from them: none of them reads the others' features.
    data = shares.prepared(whole, share, _everyones(group, whole.examples(share)))
    digests = _everyones(group, data.sha256)
    shared = SharedData(
        **{field.name: getattr(data, field.name) for field in dataclasses.fields(Data)},
        digest=shares.digest(digests),
        rows_in_all=len(whole.target),
        workers=group.size,
    )
    parts = split(dataclasses.replace(data, target=whole.target), split_spec)
    mine = SharedSplit(
        parts.rule,
        _within(share.rows, parts.rest),
        _within(share.rows, parts.holdout),
        tuple((_within(share.rows, a), _within(share.rows, b)) for a, b in parts.folds),
        parts.holdout_sha256,
    )
    return shared, mine


def gathered(data: SharedData, parts: SharedSplit, group: Group) -> tuple[SharedData, SharedSplit]:
    """Return what the first worker records: its own rows to train on, and all that are held out."""
    held = group.joined(data.features_of(parts.holdout))
    target = group.joined(data.target[parts.holdout])
    frame = pd.DataFrame({name: _column(held[:, i], data.frame[name]) for i, name in enumerate(data.frame.columns)})
    whole = dataclasses.replace(
        data,
        frame=pd.concat([data.frame.iloc[parts.rest], frame], ignore_index=True),
        target=np.concatenate([data.target[parts.rest], target]),
        raw_sha256=Parquets(place(data.spec.source)).sha256 if group.first else "",
    )
    own = len(parts.rest)
    holdout = np.arange(own, own + len(held), dtype=np.int64)
    return whole, dataclasses.replace(parts, rest=np.arange(own, dtype=np.int64), holdout=holdout, folds=())


def _everyones(group: Group, mine: Any) -> list[Any]:
    """Return what each worker has, in their order."""
    text = (json.dumps(mine) + "\n").encode()
    return [json.loads(line) for line in group.joined(np.frombuffer(text, dtype=np.uint8)).tobytes().splitlines()]


def _within(rows: NDArray[np.int64], wanted: Rows) -> Rows:
    """Return the places of the wanted rows among ours."""
    return np.flatnonzero(np.isin(rows, wanted)).astype(np.int64)


def _column(values: NDArray[np.float32], like: "pd.Series[Any]") -> Any:
    if isinstance(like.dtype, pd.CategoricalDtype):
        codes = np.where(np.isnan(values), -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes, dtype=like.dtype)
    return values
