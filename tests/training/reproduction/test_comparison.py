"""Comparison of the recorded settings with those that MLflow shows."""

import json

from training.reproduction.comparison import changed_settings
from training.reproduction.differences import Difference

SETTINGS = {
    "monotone_constraints": {"age": 1},
    "eval_metric": ["auc", "logloss"],
    "seed_per_iteration": True,
    "max_delta_step": 0.5,
    "objective": "binary:logistic",
    "seed": 3,
}
LOGGED = {
    "monotone_constraints": '{"age": 1}',
    "eval_metric": '["auc", "logloss"]',
    "seed_per_iteration": "true",
    "max_delta_step": "0.5",
    "objective": "binary:logistic",
    "seed": "3",
    "rounds": "8",
}


def test_dicts_lists_and_booleans_are_compared_by_value() -> None:
    assert list(changed_settings(LOGGED, SETTINGS)) == []


def test_changed_value_is_named() -> None:
    changed = LOGGED | {"seed": "4", "eval_metric": '["logloss"]'}

    assert list(changed_settings(changed, SETTINGS)) == [
        Difference("settings", "eval_metric", '["logloss"]', '["auc", "logloss"]'),
        Difference("settings", "seed", "4", "3"),
    ]


def test_value_that_mlflow_cut_is_compared_up_to_the_cut() -> None:
    constraints = {f"column {i}": 1 for i in range(1000)}
    cut = json.dumps(constraints)[:6000]

    assert list(changed_settings({"monotone_constraints": cut}, {"monotone_constraints": constraints})) == []
    (found,) = changed_settings({"monotone_constraints": cut[:-1] + "x"}, {"monotone_constraints": constraints})
    assert found.name == "monotone_constraints"
