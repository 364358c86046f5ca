"""The rules of a promotion, and the result of the verification."""

import pytest

from app.model.contract import Contract, Task
from training.errors import InputError
from training.gate.promotion import Rules, Verification

CLASSES = {"binary": ("a", "b"), "multiclass": ("a", "b", "c")}


def model(task: Task, metric: str = "") -> Contract:
    return Contract(task=task, target="y", classes=CLASSES.get(task, ()), metric=metric)


def rules(metric: str = "", **limits: float) -> Rules:
    return Rules(metric=metric, margin=0, limits=limits, confidence=0.95, resamples=100, seed=0)


@pytest.mark.parametrize(
    ("task", "metric"), [("binary", "auc"), ("multiclass", "logloss"), ("regression", "rmse"), ("ranking", "ndcg")]
)
def test_default_metric_depends_on_the_task(task: Task, metric: str) -> None:
    assert rules().for_model(model(task)).metric == metric


def test_given_metric_is_kept() -> None:
    assert rules("brier", auc=0.9).for_model(model("binary", "f1")) == rules("brier", auc=0.9)


def test_metric_of_the_training_is_the_default() -> None:
    assert rules().for_model(model("regression", "pinball_0.9")).metric == "pinball_0.9"


@pytest.mark.parametrize("given", [rules("auc"), rules(logloss=0.3)])
def test_metric_or_limit_of_another_task_is_refused(given: Rules) -> None:
    with pytest.raises(InputError, match=r"is not a metric of a regression model\. Use one of rmse, mae, mape, "):
        given.for_model(model("regression"))


def test_verified_by_leaves_out_unknown_parts_of_the_service() -> None:
    service = {"version": "0.1.0", "git_commit": None, "image": "sha256:1", "uptime": 3}
    found = Verification.model_validate({"passed": True, "model": {"sha256": "a"}, "service": service, "checks": []})

    assert found.verified_by == "0.1.0 sha256:1"
