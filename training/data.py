"""Load the training data, split it, and say by digest exactly which data it was.

MLflow's own data set digest is 8 characters of an md5 over the first 10,000 rows: too weak for an audit.
"""

import hashlib
import importlib.resources
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

HOLDOUT_SHARE = 0.2
VALIDATION_SHARE = 0.2  # of the rows outside the holdout

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """Data: `frame` as shipped; `features` (rows, columns) and `target` (rows,) as XGBoost sees them."""

    name: str
    frame: pd.DataFrame
    features: Matrix
    target: Matrix
    target_name: str
    classes: tuple[str, ...]
    raw_sha256: str

    @property
    def sha256(self) -> str:
        """Digest of the prepared float32 data with its column names.

        The raw file alone would not do: preparation can differ between processors, and the model with it.
        """
        digest = hashlib.sha256()
        for text in (*self.frame.columns, self.target_name, *self.classes):
            digest.update(text.encode() + b"\0")
        for matrix in (self.features, self.target):
            digest.update(str(matrix.shape).encode() + b"\0" + matrix.astype("<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts, each sorted."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    holdout: NDArray[np.int64]

    @property
    def holdout_sha256(self) -> str:
        """Digest of the holdout's row numbers: metrics compare only where it is equal."""
        return hashlib.sha256(self.holdout.astype("<i8").tobytes()).hexdigest()


def load() -> Data:
    """Load breast_cancer as scikit-learn ships it: 569 rows, 30 columns, benign is class 1.

    Source: https://archive.ics.uci.edu/dataset/17/breast+cancer+wisconsin+diagnostic
    """
    bunch = load_breast_cancer()
    raw = importlib.resources.files("sklearn.datasets.data").joinpath("breast_cancer.csv").read_bytes()
    return Data(
        name="breast_cancer",
        frame=pd.DataFrame(bunch.data, columns=[str(name) for name in bunch.feature_names]),
        features=bunch.data.astype(np.float32),
        target=bunch.target.astype(np.float32),
        target_name="diagnosis",
        classes=tuple(str(name) for name in bunch.target_names),
        raw_sha256=hashlib.sha256(raw).hexdigest(),
    )


def split(data: Data, seed: int) -> Split:
    """Split the rows by class share; the same data and seed give the same rows on every machine."""
    rows = np.arange(len(data.target), dtype=np.int64)
    rest, holdout = train_test_split(rows, test_size=HOLDOUT_SHARE, stratify=data.target, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=VALIDATION_SHARE, stratify=data.target[rest], random_state=seed
    )
    return Split(np.sort(train), np.sort(validation), np.sort(holdout))
