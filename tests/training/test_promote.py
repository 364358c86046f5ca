"""The gate and the way back, against a real MLflow server with models of known worth."""

import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.training.conftest import Server
from training.decision import Decision
from training.errors import InputError
from training.gate import Rules
from training.ledger import Ledger
from training.promotion import promote
from training.rollback import rollback

NAME = "gated"
RULES = Rules(metric="", margin=0, limits={}, confidence=0.95, resamples=200, seed=0)
# Warnings of MLflow 3.17 about its own code: comparing columns with a range (pandas 3), Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
# How each version is trained: its name here, and the settings.
VERSIONS = {
    "poor": ("--rounds=1", "--max-depth=1"),
    "good": ("--rounds=60",),
    "as good": ("--rounds=60", "--seed=1"),
    "good again": ("--rounds=60",),
    "other rows": ("--rounds=60", "--split-seed=1"),
}


@pytest.fixture(scope="module")
def versions(server: Server, trained: Callable[..., dict[str, Any]]) -> dict[str, str]:
    """Train all of them once; return the number of each."""
    return {
        name: trained(server, NAME, "--early-stopping-rounds=0", *options)["version"]
        for name, options in VERSIONS.items()
    }


@pytest.fixture
def client(server: Server) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(server.uri)
    return server.client


def verification(client: mlflow.MlflowClient, version: str, name: str = NAME) -> dict[str, Any]:
    """What app.verify writes of a version that passes; that it does write this, its own tests show."""
    sha256 = client.get_model_version(name, version).tags["sha256"]
    return {"passed": True, "model": {"sha256": sha256}, "service": {"version": "0.1.0"}, "checks": []}


def try_to_promote(client: mlflow.MlflowClient, version: str, alias: str, **changes: Any) -> Decision:
    found = changes.pop("verification", verification(client, version))
    dry_run = changes.pop("dry_run", False)
    return promote(client, NAME, version, alias, replace(RULES, **changes), found, dry_run=dry_run)


def champion(client: mlflow.MlflowClient, alias: str, name: str = NAME) -> str:
    return str(client.get_registered_model(name).aliases.get(alias, ""))


def tags(client: mlflow.MlflowClient, version: str) -> dict[str, str]:
    known = client.get_model_version(NAME, version).tags
    return {key.removeprefix("gate."): value for key, value in known.items() if key.startswith("gate.")}


def test_better_ones_climb_and_the_way_back_has_an_end(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    poor, good = versions["poor"], versions["good"]

    first = try_to_promote(client, poor, "climb")
    assert (first.outcome, champion(client, "climb")) == ("promoted", poor)
    assert "there is no champion to compare with" in first.reason

    second = try_to_promote(client, good, "climb")
    assert (second.outcome, champion(client, "climb")) == ("promoted", good)
    assert second.values == f"model:\n  uri: models:/{NAME}/{good}\n  sha256: {second.sha256}\n"
    found = tags(client, good)
    assert found.items() >= {
        "decision": "promoted", "compared_with": poor, "sha256": second.sha256, "metric": "auc", "alias": "climb",
        "compared_sha256": first.sha256, "reason": second.reason, "verified_by": "0.1.0",
    }.items()  # fmt: skip
    assert float(found["gain"]) == pytest.approx(float(found["value"]) - float(found["compared_value"]))
    assert 0 < float(found["gain_low"]) < float(found["gain"])

    assert rollback(client, NAME, "climb", dry_run=True).outcome == "would be rolled back"
    back = rollback(client, NAME, "climb", dry_run=False)
    assert (back.outcome, back.sha256, champion(client, "climb")) == ("rolled back", first.sha256, poor)
    assert tags(client, good)["decision"] == "rolled back"
    assert "compared_with" not in tags(client, good)
    nothing = rollback(client, NAME, "climb", dry_run=False)
    assert nothing.outcome == "refused"
    assert nothing.reason == f"no champion before version {poor} is known"

    ledger = Ledger.find(client, NAME, "climb")
    assert ledger is not None
    assert [(each.action, each.version) for each in ledger.entries()] == [
        ("promote", poor), ("promote", good), ("rollback", poor),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "changes", "reason"),
    [
        ("poor", {}, "auc is 0."),
        ("as good", {}, "where more than +0 is required"),
        ("as good", {"margin": -0.05, "limits": {"auc": 0.9999}}, "at least 0.9999 is required"),
        ("as good", {"margin": -0.05, "limits": {"logloss": 0.01}}, "at most 0.01 is required"),
        ("other rows", {"margin": -0.05}, "only models with the same held-out rows are compared"),
        ("as good", {"margin": -0.05, "verification": None}, "it is not verified: run python -m app.verify"),
    ],
)
def test_refusal_says_why_and_changes_nothing_but_its_tags(
    client: mlflow.MlflowClient, versions: dict[str, str], candidate: str, changes: dict[str, Any], reason: str
) -> None:
    if not champion(client, "refusing"):
        assert try_to_promote(client, versions["good"], "refusing").outcome == "promoted"

    found = try_to_promote(client, versions[candidate], "refusing", **changes)

    assert found.outcome == "refused"
    assert reason in found.reason
    assert champion(client, "refusing") == versions["good"] == found.version
    assert tags(client, versions[candidate]).items() >= {"decision": "refused", "reason": found.reason}.items()


def test_as_good_a_model_passes_where_that_is_enough(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["good"], "enough").outcome == "promoted"

    dry = try_to_promote(client, versions["as good"], "enough", margin=-0.05, dry_run=True)
    assert (dry.outcome, champion(client, "enough")) == ("would be promoted", versions["good"])
    assert "enough" not in tags(client, versions["as good"]).get("alias", "")

    assert try_to_promote(client, versions["as good"], "enough", margin=-0.05).outcome == "promoted"


def test_other_rows_are_compared_where_that_is_wanted(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["poor"], "retrained").outcome == "promoted"

    found = try_to_promote(client, versions["other rows"], "retrained", same_holdout=False)

    assert found.outcome == "promoted"
    assert tags(client, versions["other rows"])["compared_with"] == versions["poor"]


def test_data_that_changed_are_a_refusal(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    lines = [f"{i * 7 % 60},{'yes' if i * 7 % 60 > 30 else 'no'}" for i in range(120)]
    table.write_text("\n".join(["age,left", *lines]))
    options = (f"--data={table}", "--target=left", "--rounds=9", "--early-stopping-rounds=0")
    first, second = (trained(server, "changing", *options, f"--seed={seed}") for seed in (0, 1))
    proofs = [verification(client, each["version"], "changing") for each in (first, second)]
    promoted = promote(client, "changing", first["version"], "champion", RULES, proofs[0], dry_run=False)
    assert promoted.outcome == "promoted"

    table.write_text("\n".join(["age,left", "61,yes", *lines[1:]]))
    gone = promote(client, "changing", second["version"], "champion", RULES, proofs[1], dry_run=False)
    assert gone.outcome == "refused"
    assert "its held-out rows are not there any more: trained on" in gone.reason

    other = trained(server, "changing", *options)
    proof = verification(client, other["version"], "changing")
    found = promote(client, "changing", other["version"], "champion", RULES, proof, dry_run=False)
    assert found.outcome == "refused"
    assert "only models with the same held-out rows are compared" in found.reason


def test_a_model_that_its_callers_would_notice_is_refused(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]], versions: dict[str, str]
) -> None:
    assert try_to_promote(client, versions["poor"], "called").outcome == "promoted"
    narrow = trained(server, NAME, "--early-stopping-rounds=0", "--rounds=60", '--drop=["mean radius"]')["version"]

    found = try_to_promote(client, narrow, "called", same_holdout=False)

    assert found.outcome == "refused"
    assert "it takes no column mean radius" in found.reason
    assert champion(client, "called") == versions["poor"]


def test_the_same_bytes_are_nothing_to_do(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["good"], "same").outcome == "promoted"

    for version in (versions["good"], versions["good again"]):
        found = try_to_promote(client, version, "same")
        assert (found.outcome, champion(client, "same")) == ("unchanged", versions["good"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"sha256": "0" * 64}}, "the verification is of a model with sha256 0000"),
        (
            {"passed": False, "checks": [{"name": "loads", "passed": False, "detail": "too big"}]},
            "failed: loads: too big",
        ),
    ],
)
def test_a_verification_counts_for_its_own_bytes(
    client: mlflow.MlflowClient, versions: dict[str, str], changes: dict[str, Any], reason: str
) -> None:
    found = verification(client, versions["good"]) | changes

    decision = try_to_promote(client, versions["good"], "unverified", verification=found)

    assert decision.outcome == "refused"
    assert reason in decision.reason
    assert champion(client, "unverified") == ""


def test_a_metric_of_another_task_is_named(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    with pytest.raises(InputError, match="rmse is no metric of a binary model, whose metrics are auc, logloss"):
        try_to_promote(client, versions["good"], "metric", metric="rmse")


def test_no_rollback_to_bytes_that_were_changed(
    server: Server, client: mlflow.MlflowClient, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    name = "changed"
    found = [trained(server, name, "--early-stopping-rounds=0", *VERSIONS[worth]) for worth in ("poor", "good")]
    for each in found:
        proof = verification(client, each["version"], name)
        assert promote(client, name, each["version"], "champion", RULES, proof, dry_run=False).outcome == "promoted"
    old, new = (server.model_folder(name, each["version"]) / "model.ubj" for each in found)
    shutil.copy(old, tmp_path / "kept")
    shutil.copy(new, old)

    decision = rollback(client, name, "champion", dry_run=False)

    assert decision.outcome == "refused"
    assert f"but MLflow gives out {found[1]['sha256']}" in decision.reason
    assert champion(client, "champion", name) == found[1]["version"]


def race(uri: str, version: str, proof: dict[str, Any], rounds: int, start: Barrier, outcomes: Any) -> None:
    """Promote the version in each round, at the same time as another process promotes another one."""
    mlflow.set_tracking_uri(uri)
    client, rules = mlflow.MlflowClient(uri), replace(RULES, margin=0.5)
    for _ in range(rounds):
        start.wait()
        # Who comes second compares with the first, or has lost to it: neither is half an AUC better.
        outcomes.put((version, promote(client, NAME, version, "raced", rules, proof, dry_run=False)))


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.long)])
def test_of_two_promotions_at_once_one_is_promoted(
    server: Server, client: mlflow.MlflowClient, versions: dict[str, str], rounds: int
) -> None:
    context = multiprocessing.get_context("spawn")
    start, outcomes = context.Barrier(3), context.Queue()
    numbers = [versions["good"], versions["as good"]]
    racers = [
        context.Process(target=race, args=(server.uri, each, verification(client, each), rounds, start, outcomes))
        for each in numbers
    ]
    for racer in racers:
        racer.start()
    lost = 0
    for _ in range(rounds):
        client.delete_registered_model_alias(NAME, "raced")
        start.wait(120)
        both = dict(outcomes.get(timeout=120) for _ in numbers)
        winner = [version for version, decision in both.items() if decision.outcome == "promoted"]
        refused = [version for version, decision in both.items() if decision.outcome == "refused"]
        assert sorted(winner + refused) == sorted(numbers)
        assert [champion(client, "raced")] == winner
        assert tags(client, refused[0])["decision"] == "refused"
        lost += "became the champion while" in both[refused[0]].reason
    for racer in racers:
        racer.join(60)
    assert lost  # at least once they really were at it together
