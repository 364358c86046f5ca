"""The parameter `missing` of XGBoost's scikit-learn classes, which a model file does not contain."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.model import xgboost as xgboost_model
from app.model.booster import Matrix
from app.model.files import Provenance
from app.model.xgboost import BoosterModel

WARNING = "The run did not log the parameter missing of XGBClassifier"


@pytest.fixture(scope="module")
def holes(rows: Matrix) -> Matrix:
    """Rows in which -999 stands for a missing value."""
    found = rows.copy()
    found[::3, 0] = -999
    return found


@pytest.fixture(scope="module")
def classifier(holes: Matrix) -> Any:
    y = (holes[:, 0] < 0) ^ (holes[:, 1] > np.median(holes[:, 1]))
    return xgb.XGBClassifier(missing=-999, n_estimators=5, max_depth=3, n_jobs=1, min_child_weight=0).fit(holes, y)


@pytest.fixture(scope="module")
def folder(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost

        path = tmp_path_factory.mktemp("missing") / "model"
        mlflow.xgboost.save_model(classifier, str(path), model_format="ubj", pip_requirements=["xgboost-cpu"])
    return path


def load(folder: Path, **parameters: str) -> BoosterModel:
    return xgboost_model.load(folder, Provenance("m", "1", "models:/m/1", parameters=parameters))


def test_missing_value_of_the_run_is_used(
    folder: Path, classifier: Any, holes: Matrix, caplog: pytest.LogCaptureFixture
) -> None:
    expected = classifier.predict_proba(holes)[:, 1]
    null = np.where(holes == -999, np.nan, holes)

    model = load(folder, missing="-999")

    np.testing.assert_array_equal(model.answer(holes)[:, 0], expected)
    np.testing.assert_array_equal(model.answer(null)[:, 0], expected)
    np.testing.assert_array_equal(
        model.booster.contributions(holes)[:, 0],
        classifier.get_booster().predict(xgb.DMatrix(holes, missing=-999), pred_contribs=True),
    )
    assert WARNING not in caplog.text


@pytest.mark.parametrize("parameters", [{}, {"missing": "mean"}])
def test_unknown_missing_value_is_reported(
    folder: Path, classifier: Any, holes: Matrix, caplog: pytest.LogCaptureFixture, parameters: dict[str, str]
) -> None:
    model = load(folder, **parameters)

    assert WARNING in caplog.text
    null = np.where(holes == -999, np.nan, holes)
    np.testing.assert_array_equal(model.answer(null)[:, 0], classifier.predict_proba(holes)[:, 1])
    assert not np.array_equal(model.answer(holes), model.answer(null))


def test_nothing_is_reported_if_the_run_logged_nan(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(folder, missing="nan")

    assert WARNING not in caplog.text


def test_missing_value_of_a_booster_is_not_a_parameter_of_its_run(copied: Path, rows: Matrix) -> None:
    assert np.array_equal(load(copied, missing=str(rows[0, 0])).answer(rows), load(copied).answer(rows))
