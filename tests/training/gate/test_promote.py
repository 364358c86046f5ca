"""Promotion and rollback, with a real MLflow server and models of known quality."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.training.conftest import Server
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError
from training.gate.decision import Decision
from training.gate.ledger import Entry, Ledger
from training.gate.promote import promote
from training.gate.promotion import Promotion, Rules, Verification
from training.gate.rollback import rollback

NAME = "gated"
RULES = Rules(metric="", margin=0, limits={}, confidence=0.95, resamples=200, seed=0)
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
# Options of each version.
VERSIONS = {
    "poor": ("--rounds=1", "--max-depth=1"),
    "good": ("--rounds=60",),
    "as good": ("--rounds=60", "--seed=1"),
    "good again": ("--rounds=60",),
    "other rows": ("--rounds=60", "--split-seed=1"),
}


@pytest.fixture(scope="module")
def versions(server: Server, trained: Callable[..., dict[str, Any]]) -> dict[str, str]:
    """Train all versions once, and return their numbers."""
    return {
        name: trained(server, NAME, "--early-stopping-rounds=0", *options)["version"]
        for name, options in VERSIONS.items()
    }


@pytest.fixture
def client(server: Server) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(server.uri)
    return server.client


def verification(client: mlflow.MlflowClient, version: str, name: str = NAME) -> Verification:
    """Return what app.tools.verify writes for a version that passes; its own tests show that it does."""
    return verified(client.get_model_version(name, version).tags["sha256"])


def verified(sha256: str, **changes: Any) -> Verification:
    passed: dict[str, Any] = {
        "passed": True,
        "model": {"sha256": sha256},
        "service": {"version": "0.1.0"},
        "checks": [],
    }
    return Verification.model_validate(passed | changes)


def proposed(client: mlflow.MlflowClient, version: str, name: str = NAME, alias: str = "champion") -> Promotion:
    return Promotion(name, version, alias, RULES, verification(client, version, name))


def try_to_promote(client: mlflow.MlflowClient, version: str, alias: str, **changes: Any) -> Decision:
    request = proposed(client, version, alias=alias)
    given = {name: changes.pop(name) for name in ("verification", "dry_run") if name in changes}
    return promote(client, replace(request, rules=replace(RULES, **changes), **given))


def champion(client: mlflow.MlflowClient, alias: str, name: str = NAME) -> str:
    return str(client.get_registered_model(name).aliases.get(alias, ""))


def tags(client: mlflow.MlflowClient, version: str) -> dict[str, str]:
    known = client.get_model_version(NAME, version).tags
    return {key.removeprefix("gate."): value for key, value in known.items() if key.startswith("gate.")}


def test_better_versions_are_promoted_and_rollback_ends_at_the_first(
    client: mlflow.MlflowClient, versions: dict[str, str]
) -> None:
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
    assert nothing.reason == f"the ledger has no champion before version {poor}"

    ledger = Ledger.find(client, NAME, "climb")
    assert ledger is not None
    assert [(each.action, each.version) for each in ledger.entries()] == [
        ("promote", poor), ("promote", good), ("rollback", poor),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "changes", "reason"),
    [
        ("poor", {}, "auc is 0."),
        ("as good", {}, "confidence; more than +0 is required"),
        ("as good", {"margin": -0.05, "limits": {"auc": 0.9999}}, "at least 0.9999 is required"),
        ("as good", {"margin": -0.05, "limits": {"logloss": 0.01}}, "at most 0.01 is required"),
        ("other rows", {"margin": -0.05}, "only models with the same held-out rows are compared"),
        ("as good", {"margin": -0.05, "verification": None}, "it is not verified: run python -m app.tools.verify"),
    ],
)
def test_refusal_has_a_reason_and_changes_only_tags(
    client: mlflow.MlflowClient, versions: dict[str, str], candidate: str, changes: dict[str, Any], reason: str
) -> None:
    if not champion(client, "refusing"):
        assert try_to_promote(client, versions["good"], "refusing").outcome == "promoted"

    found = try_to_promote(client, versions[candidate], "refusing", **changes)

    assert found.outcome == "refused"
    assert reason in found.reason
    assert champion(client, "refusing") == versions["good"] == found.version
    assert tags(client, versions[candidate]).items() >= {"decision": "refused", "reason": found.reason}.items()


def test_negative_margin_accepts_an_equally_good_model(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["good"], "enough").outcome == "promoted"

    dry = try_to_promote(client, versions["as good"], "enough", margin=-0.05, dry_run=True)
    assert (dry.outcome, champion(client, "enough")) == ("would be promoted", versions["good"])
    assert "enough" not in tags(client, versions["as good"]).get("alias", "")

    assert try_to_promote(client, versions["as good"], "enough", margin=-0.05).outcome == "promoted"


def test_different_holdouts_are_compared_on_request(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["poor"], "retrained").outcome == "promoted"

    found = try_to_promote(client, versions["other rows"], "retrained", same_holdout=False)

    assert found.outcome == "promoted"
    assert tags(client, versions["other rows"])["compared_with"] == versions["poor"]


def test_growing_table_is_compared_on_rows_that_neither_model_has_seen(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    ages, noise = np.random.default_rng(0).integers([0, -3], [60, 4], (2000, 2)).T
    pairs = enumerate(zip(ages, noise, strict=True))
    lines = [f"{i},{age},{'yes' if age % 20 > 10 + off else 'no'}" for i, (age, off) in pairs]
    options = ("--target=left", "--drop=id", "--early-stopping-rounds=0", "--max-depth=2")

    def grown(rows: int, rounds: int, *more: str) -> Promotion:
        table = tmp_path / f"{rows}.csv"
        table.write_text("\n".join(["id,age,left", *lines[:rows]]))
        given = (*options, f"--data={table}", f"--rounds={rounds}", *more)
        return proposed(client, trained(server, "growing", *given)["version"], "growing")

    key = "--holdout-key=id"
    first = promote(client, grown(1000, 1, key, "--holdout-share=0.1"))
    second = promote(client, grown(2000, 20, key, "--holdout-share=0.2"))
    drawn, other_seed = (promote(client, grown(2000, 40, *more)) for more in ((), (key, "--split-seed=1")))

    table = load(DataSpec(source=str(tmp_path / "2000.csv"), target="left", drop=("id",), holdout_key=("id",)))
    fewer = len(split(table, SplitSpec(holdout_share=0.1)).holdout)
    assert 150 < fewer < 250
    assert (first.outcome, second.outcome) == ("promoted", "promoted")
    assert f"{fewer} rows were not used to train either model" in second.reason
    assert f"on {fewer} held-out rows" in second.reason
    for refused in (drawn, other_seed):
        assert refused.outcome == "refused"
        assert "train both models with the same --holdout-key" in refused.reason


def test_changed_data_are_refused(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    lines = [f"{i * 7 % 60},{'yes' if i * 7 % 60 > 30 else 'no'}" for i in range(120)]
    table.write_text("\n".join(["age,left", *lines]))
    options = (f"--data={table}", "--target=left", "--rounds=9", "--early-stopping-rounds=0")
    first, second = (trained(server, "changing", *options, f"--seed={seed}") for seed in (0, 1))
    assert promote(client, proposed(client, first["version"], "changing")).outcome == "promoted"

    table.write_text("\n".join(["age,left", "61,yes", *lines[1:]]))
    gone = promote(client, proposed(client, second["version"], "changing"))
    assert gone.outcome == "refused"
    assert "its data have changed: it was trained on" in gone.reason

    other = trained(server, "changing", *options)
    found = promote(client, proposed(client, other["version"], "changing"))
    assert found.outcome == "refused"
    assert "only models with the same held-out rows are compared" in found.reason


def test_breaking_interface_is_refused(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]], versions: dict[str, str]
) -> None:
    assert try_to_promote(client, versions["poor"], "called").outcome == "promoted"
    narrow = trained(server, NAME, "--early-stopping-rounds=0", "--rounds=60", '--drop=["mean radius"]')["version"]

    found = try_to_promote(client, narrow, "called", same_holdout=False)

    assert found.outcome == "refused"
    assert "it does not accept the column mean radius" in found.reason
    assert champion(client, "called") == versions["poor"]


def test_champion_with_the_same_bytes_is_unchanged(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    assert try_to_promote(client, versions["good"], "same").outcome == "promoted"

    for version in (versions["good"], versions["good again"]):
        found = try_to_promote(client, version, "same")
        assert (found.outcome, champion(client, "same")) == ("unchanged", versions["good"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"sha256": "0" * 64}}, "the verification belongs to a model with sha256 0000"),
        (
            {"passed": False, "checks": [{"name": "loads", "passed": False, "detail": "too big"}]},
            "failed: loads: too big",
        ),
    ],
)
def test_verification_of_other_bytes_is_refused(
    client: mlflow.MlflowClient, versions: dict[str, str], changes: dict[str, Any], reason: str
) -> None:
    found = verified(verification(client, versions["good"]).model.sha256, **changes)

    decision = try_to_promote(client, versions["good"], "unverified", verification=found)

    assert decision.outcome == "refused"
    assert reason in decision.reason
    assert champion(client, "unverified") == ""


def test_metric_of_another_task_is_named(client: mlflow.MlflowClient, versions: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"rmse is not a metric of a binary model\. Use one of auc, logloss"):
        try_to_promote(client, versions["good"], "metric", metric="rmse")


def test_rollback_to_changed_files_is_refused(
    server: Server, client: mlflow.MlflowClient, trained: Callable[..., dict[str, Any]]
) -> None:
    name = "changed"
    found = [trained(server, name, "--early-stopping-rounds=0", *VERSIONS[worth]) for worth in ("poor", "good")]
    for each in found:
        assert promote(client, proposed(client, each["version"], name)).outcome == "promoted"
    contract = server.model_folder(name, found[0]["version"]) / "contract.json"
    contract.write_text(contract.read_text().replace('"malignant"', '"x"'))

    decision = rollback(client, name, "champion", dry_run=False)

    assert decision.outcome == "refused"
    assert f"was the champion with sha256 {found[0]['sha256']}, but MLflow now returns" in decision.reason
    assert champion(client, "champion", name) == found[1]["version"]


def test_rollback_reads_a_ledger_with_digests_of_model_files(
    client: mlflow.MlflowClient, server: Server, trained: Callable[..., dict[str, Any]]
) -> None:
    name = "earlier"
    first, second = (trained(server, name, "--early-stopping-rounds=0", *VERSIONS[w]) for w in ("poor", "good"))
    ledger = Ledger.open(client, name, "champion", client.get_run(first["run_id"]).info.experiment_id)
    for number, each in enumerate((first, second)):
        ledger.append(number, Entry("promote", each["version"], each["file_sha256"], "", ""))
    ledger.settle()

    decision = rollback(client, name, "champion", dry_run=False)

    assert (decision.outcome, decision.version, decision.sha256) == ("rolled back", first["version"], first["sha256"])


def race(uri: str, promotion: Promotion, rounds: int, start: Barrier, outcomes: Any) -> None:
    """Promote the version in each round, while another process promotes another version."""
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    for _ in range(rounds):
        start.wait()
        # The slower process compares with the winner, or loses to it: no version is better by 0.5 AUC.
        outcomes.put((promotion.version, promote(client, promotion)))


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.long)])
def test_one_of_two_concurrent_promotions_wins(
    server: Server, client: mlflow.MlflowClient, versions: dict[str, str], rounds: int
) -> None:
    context = multiprocessing.get_context("spawn")
    start, outcomes = context.Barrier(3), context.Queue()
    numbers = [versions["good"], versions["as good"]]
    promotions = [replace(proposed(client, each, alias="raced"), rules=replace(RULES, margin=0.5)) for each in numbers]
    racers = [context.Process(target=race, args=(server.uri, each, rounds, start, outcomes)) for each in promotions]
    for racer in racers:
        racer.start()
    lost = 0
    for _ in range(rounds):
        client.delete_registered_model_alias(NAME, "raced")
        start.wait(120)
        both = dict(outcomes.get(timeout=300) for _ in numbers)
        winner = [version for version, decision in both.items() if decision.outcome == "promoted"]
        refused = [version for version, decision in both.items() if decision.outcome == "refused"]
        assert sorted(winner + refused) == sorted(numbers)
        assert [champion(client, "raced")] == winner
        assert tags(client, refused[0])["decision"] == "refused"
        lost += "became the champion during the comparison" in both[refused[0]].reason
    for racer in racers:
        racer.join(60)
    assert lost  # at least one of the rounds was concurrent
