"""The data, its digests and its split."""

from dataclasses import replace

import numpy as np
import pytest

from training.data import Data, load, split


@pytest.fixture(scope="module")
def data() -> Data:
    return load()


def test_data_is_the_shipped_one(data: Data) -> None:
    assert data.features.shape == (569, 30)
    assert data.features.dtype == np.float32
    assert data.classes == ("malignant", "benign")
    assert data.target.sum() == 357
    assert data.raw_sha256 == "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"
    assert data.sha256 == load().sha256


def test_digest_changes_with_any_value(data: Data) -> None:
    features, target = data.features.copy(), data.target.copy()
    features[-1, -1] = np.nextafter(features[-1, -1], np.float32(1))
    target[-1] = 1 - target[-1]

    digests = {data.sha256, replace(data, features=features).sha256, replace(data, target=target).sha256}

    assert len(digests) == 3


def test_digest_changes_with_a_column_name(data: Data) -> None:
    renamed = data.frame.rename(columns={"mean radius": "radius"})

    assert replace(data, frame=renamed).sha256 != data.sha256


def test_split_is_a_partition_by_class_share(data: Data) -> None:
    parts = split(data, seed=0)

    together = np.concatenate([parts.train, parts.validation, parts.holdout])
    assert sorted(together) == list(range(569))
    assert (len(parts.train), len(parts.validation), len(parts.holdout)) == (364, 91, 114)
    for part in (parts.train, parts.validation, parts.holdout):
        assert data.target[part].mean() == pytest.approx(data.target.mean(), abs=0.01)


def test_split_follows_from_its_seed(data: Data) -> None:
    first, again, other = (split(data, seed).holdout_sha256 for seed in (0, 0, 1))

    assert first == again
    assert first != other
