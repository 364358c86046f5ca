"""Comparison of the recorded settings with those that MLflow shows."""

import json

from training.reproduction.comparison import changed_settings, explaining_files
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


def test_files_are_named_for_the_differences_that_they_explain() -> None:
    files = [f"environment/{name}" for name in ("packages.txt", "uncommitted.diff", "uv.lock")]

    assert explaining_files({("data", "sha256"), ("registry", "model.ubj")}, files) == []
    assert explaining_files({("code", "git_dirty")}, files) == files[1:2]
    assert explaining_files({("environment", "lock_sha256")}, files) == [files[0], files[2]]
    assert explaining_files({("environment", "pandas"), ("code", "git_commit")}, files) == files[:2]
    assert explaining_files({("environment", "lock_sha256")}, []) == []
