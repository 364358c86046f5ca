"""Models of other versions of MLflow and XGBoost: served with that environment's own predictions, or refused."""

import collections
from pathlib import Path

import numpy as np
import pytest

from app.errors import LoadError
from app.model import xgboost as xgboost_model
from app.model.files import Provenance
from app.model.xgboost import BoosterModel
from tests.app.model import foreign_environments as foreign
from tests.app.model.foreign_environments import Foreign
from tools.cluster.cache import ROOT

PAGE = ROOT / "docs" / "tutorials" / "bring-your-own-model.md"
COLOURS = ("blue", "green", "red")


def load(folder: Path, **categories: tuple[str, ...]) -> BoosterModel:
    return xgboost_model.load(folder, Provenance("m", "", folder.as_uri()), categories=categories)


def assert_same_predictions(model: BoosterModel, made: Foreign) -> None:
    rows, wanted = made.answer["rows"], np.array(made.answer["predictions"], dtype=np.float32)
    found = model.answer(model.signature.from_split(rows["columns"], rows["data"]))
    if wanted.shape[1] == 2 and found.shape[1] == 1:  # the service needs only the probability of the second class
        wanted = wanted[:, 1:]
    assert len(np.unique(wanted)) > 2
    np.testing.assert_array_equal(found, wanted)


def check(mlflow: str, xgboost: str) -> None:
    """Load each model of an environment, and compare its predictions or the cause of its refusal."""
    counts = collections.Counter[str]()
    for made in foreign.models(mlflow, xgboost):
        if "error" in made.answer:  # XGBoost before 2.1 cannot write this model in its binary format
            assert "Please use JSON/UBJSON for saving models with categorical splits" in made.answer["error"]
            continue
        cause = foreign.refusal(made.kind, xgboost, binary=made.binary)
        counts[cause or "served"] += 1
        if not cause:
            assert_same_predictions(load(made.folder), made)
            continue
        with pytest.raises(LoadError, match=cause) as refusal:
            load(made.folder)
        assert not refusal.value.retryable
        if cause == foreign.CATEGORIES:
            assert_same_predictions(load(made.folder, colour=COLOURS), made)
    assert counts["served"] >= 50


def test_models_of_an_older_environment() -> None:
    check("2.17.2", "2.1.4")


@pytest.mark.long
@pytest.mark.parametrize("xgboost", foreign.XGBOOST)
@pytest.mark.parametrize("mlflow", foreign.MLFLOW)
def test_models_of_every_environment(mlflow: str, xgboost: str) -> None:
    check(mlflow, xgboost)


def test_table_of_the_documentation_is_current() -> None:
    assert "\n".join(foreign.table()) in PAGE.read_text()
