"""The format of contract.json."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.model.contract import Contract


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "binary", "classes": ("no", "yes")},
        {"task": "multiclass", "classes": ("a", "b", "c")},
        {"task": "regression"},
        {"task": "ranking"},
        {"task": "regression", "columns": [{"name": "a", "type": "long", "categories": [1, 2]}]},
        {"task": "regression", "of a later addition": 1},
    ],
)
def test_contract_round_trips_through_json(fields: dict[str, Any]) -> None:
    contract = Contract(target="y", **fields)

    assert Contract.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"task": "clustering"}, "binary"),
        ({"task": "ranking", "classes": ["a"]}, "a ranking model has no classes"),
        ({"task": "regression", "columns": [{"name": "a", "categories": [True]}]}, "valid integer"),
        ({"task": "regression", "classes": ["a"]}, "a regression model has no classes"),
        ({"task": "binary", "classes": ["a"]}, "a binary model has 2 classes, not 1"),
        ({"task": "multiclass", "classes": ["a", "b"]}, "at least 3 classes, not 2"),
        ({"task": "binary", "classes": ["a", "a"]}, "the classes are not unique"),
        ({"task": "regression", "schema_version": 3}, "Input should be 1 or 2"),
        ({"task": "regression", "target": ""}, "at least 1 character"),
    ],
)
def test_contradictory_contract_is_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Contract.model_validate({"target": "y"} | fields)
