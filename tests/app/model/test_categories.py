"""Categories from the value `model.categories`, for models whose file does not name them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from app.errors import LoadError
from app.model import xgboost as xgboost_model
from app.model.contract import CONTRACT_FILE
from app.model.files import Provenance
from app.settings import Settings, describe
from tests.app.harness import serving, settings_for
from tests.app.kinds import KINDS

COLOURS = {"colour": ["red", "blue"]}


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """A model with the codes of a categorical feature, but without its categories."""
    KINDS["codes"].save(tmp_path / "model")
    (tmp_path / "model" / CONTRACT_FILE).unlink()
    return tmp_path / "model"


def refusal(folder: Path, **categories: Any) -> str:
    with pytest.raises(LoadError) as found:
        xgboost_model.load(folder, Provenance("m", "", folder.as_uri()), categories=categories)
    assert not found.value.retryable
    return str(found.value)


def test_categories_of_the_value_are_served(nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SERVICE_MODEL_CATEGORIES", json.dumps(COLOURS))
    kind = KINDS["codes"]
    expected = np.asarray(kind.own(kind.train(kind.frame), kind.frame))
    assert len(np.unique(expected)) > 2

    with serving(settings_for(nameless.as_uri(), tmp_path)) as client:
        found = client.post("/predict", json=kind.body()).json()["predictions"]
        wrong = client.post("/predict", json={"instances": [{"a": 1, "colour": "green"}]})
        described = client.get("/model").json()["signature"][1]

    assert found == expected.tolist()
    assert wrong.json()["errors"][0]["problem"] == 'must be one of the model\'s categories: "red", "blue"'
    assert described == {"name": "colour", "type": "string", "required": True, "categories": ["red", "blue"]}


def test_unknown_categories_are_refused_with_the_value_to_set(nameless: Path) -> None:
    assert refusal(nameless) == (
        "the categories of colour are unknown, because XGBoost before 3.1 does not save them; "
        'list them in model.categories, such as {"colour": ["…", "…"]}, in the order of training '
        "(pandas: column.cat.categories)"
    )


def test_value_for_another_column_is_refused(nameless: Path) -> None:
    assert refusal(nameless, color=("red", "blue")).startswith(
        "model.categories names color, which is not a categorical feature of the model"
    )


def test_category_that_appears_twice_is_refused(nameless: Path) -> None:
    assert refusal(nameless, colour=("red", "red")).startswith("a category of colour appears twice in model.categories")


def test_value_that_contradicts_the_contract_is_refused(nameless: Path) -> None:
    (nameless / CONTRACT_FILE).write_text(json.dumps({"target": "y"} | KINDS["codes"].contract))

    assert refusal(nameless, colour=("blue", "red")).startswith(
        "the categories of colour in model.categories differ from those of contract.json"
    )


def test_value_that_contradicts_the_model_file_is_refused(tmp_path: Path) -> None:
    KINDS["categorical"].save(tmp_path)

    assert refusal(tmp_path, colour=("red", "grün", "sky blue")).startswith(
        "the categories of colour in model.categories differ from those of the booster"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_categories": "{"}, "MODEL_SERVICE_MODEL_CATEGORIES: Expecting property name"),
        ({"model_categories": '{"a": [true]}'}, "MODEL_SERVICE_MODEL_CATEGORIES: "),
        (
            {"model_categories": '{"a": ["x"]}', "model_flavor": "pyfunc"},
            "MODEL_SERVICE_MODEL_CATEGORIES requires MODEL_SERVICE_MODEL_FLAVOR=xgboost",
        ),
    ],
)
def test_invalid_value_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as found:
        Settings(model_uri="file:///m", **changes)

    assert problem in describe(found.value)
