"""Data, their digests and their split."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from training.data.dataset import Data, SplitSpec, load
from training.data.split import split


@pytest.fixture(scope="module")
def data() -> Data:
    return load()


def test_built_in_data_has_the_known_digest(data: Data) -> None:
    assert data.features.shape == (569, 30)
    assert data.features.dtype == np.float32
    assert data.classes == ("malignant", "benign")
    assert data.target.sum() == 357
    assert data.raw_sha256 == "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"
    assert data.sha256 == load().sha256


def test_digest_changes_with_any_value(data: Data) -> None:
    values, target = data.features, data.target.copy()
    values[-1, -1] = np.nextafter(values[-1, -1], np.float32(1))
    frame = pd.DataFrame(values, columns=data.frame.columns)
    target[-1] = 1 - target[-1]

    digests = {data.sha256, replace(data, frame=frame).sha256, replace(data, target=target).sha256}

    assert len(digests) == 3


def test_digest_changes_with_a_column_name(data: Data) -> None:
    renamed = data.columns[0].model_copy(update={"name": "radius"})

    assert replace(data, columns=(renamed, *data.columns[1:])).sha256 != data.sha256


def test_split_is_a_stratified_partition(data: Data) -> None:
    parts = split(data, SplitSpec(seed=0))

    (train, validation), *others = parts.folds
    assert not others
    assert sorted(np.concatenate([train, validation, parts.holdout])) == list(range(569))
    assert sorted(np.concatenate([train, validation])) == parts.rest.tolist()
    assert (len(train), len(validation), len(parts.holdout)) == (365, 91, 113)
    for part in (train, validation, parts.holdout):
        assert data.target[part].mean() == pytest.approx(data.target.mean(), abs=0.01)


def test_folds_partition_the_training_rows(data: Data) -> None:
    parts = split(data, SplitSpec(folds=4))

    assert sorted(np.concatenate([validation for _, validation in parts.folds])) == parts.rest.tolist()
    for train, validation in parts.folds:
        assert sorted(np.concatenate([train, validation])) == parts.rest.tolist()


def test_split_depends_only_on_the_seed(data: Data) -> None:
    first, again, other = (split(data, SplitSpec(seed=seed)).holdout_sha256 for seed in (0, 0, 1))

    assert first == again
    assert first != other
