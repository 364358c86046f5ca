"""The order of promotions, with a real MLflow server and concurrent processes."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import mlflow
import pytest

from tests.training.conftest import Server
from training.gate.ledger import Entry, Ledger, earlier


def entry(version: str, previous: str = "", action: str = "promote") -> Entry:
    return Entry(action, version, f"sha-{version}", previous, f"sha-{previous}")  # type: ignore[arg-type]


@pytest.fixture
def registered(server: Server) -> Callable[[str, int], str]:
    """Return a function that registers `count` versions of a model, and returns the ID of an experiment."""

    def register(name: str, count: int) -> str:
        client = server.client
        experiment = client.create_experiment(name)
        client.create_registered_model(name)
        run = client.create_run(experiment, run_name="training").info
        for _ in range(count):
            client.create_model_version(name, source=f"{run.artifact_uri}/model", run_id=run.run_id)
        return experiment

    return register


def champion(server: Server, name: str) -> str:
    return str(server.client.get_model_version_by_alias(name, "champion").version)


def race(
    uri: str, name: str, experiment: str, version: str, rounds: int, start: Barrier, wins: "multiprocessing.Queue[str]"
) -> None:
    """Promote the version repeatedly in its own process: read, wait for the others, write."""
    client = mlflow.MlflowClient(uri)
    start.wait()
    ledger = Ledger.open(client, name, "champion", experiment)  # the others create it concurrently
    for _ in range(rounds):
        start.wait()
        known = len(ledger.entries())
        start.wait()
        if ledger.append(known, entry(version)):
            ledger.settle()
            wins.put(version)


@pytest.mark.parametrize(("racers", "rounds"), [(2, 20), pytest.param(4, 250, marks=pytest.mark.long)])
def test_one_of_several_concurrent_promotions_wins_the_alias(
    server: Server, registered: Callable[[str, int], str], racers: int, rounds: int
) -> None:
    name = f"raced-{racers}"
    experiment = registered(name, racers)
    context = multiprocessing.get_context("spawn")
    start, wins = context.Barrier(racers + 1), context.Queue()
    arguments = (rounds, start, wins)
    processes = [
        context.Process(target=race, args=(server.uri, name, experiment, str(version + 1), *arguments))
        for version in range(racers)
    ]
    for process in processes:
        process.start()
    start.wait(120)
    winners = []
    for _ in range(rounds):
        start.wait(60)
        start.wait(60)
        winners.append(wins.get(timeout=300))
    for process in processes:
        process.join(60)

    ledger = Ledger.find(server.client, name, "champion")
    assert ledger is not None
    assert [each.version for each in ledger.entries()] == winners
    assert wins.empty()
    assert champion(server, name) == winners[-1]
    runs = server.client.search_runs([experiment], "attributes.run_name != 'training'")
    assert [run.info.run_id for run in runs] == [ledger.run_id]  # slower processes deleted their run


def test_repair_finishes_a_promotion_and_keeps_a_manual_move(
    server: Server, registered: Callable[[str, int], str]
) -> None:
    ledger = Ledger.open(server.client, "repaired", "champion", registered("repaired", 2))
    assert ledger.append(0, entry("1"))
    assert not ledger.append(0, entry("2"))  # too late

    ledger.repair()
    assert champion(server, "repaired") == "1"

    server.client.set_registered_model_alias("repaired", "champion", "2")
    ledger.repair()
    assert champion(server, "repaired") == "2"


def test_late_process_moves_the_alias_to_the_latest_version(
    server: Server, registered: Callable[[str, int], str]
) -> None:
    ledger = Ledger.open(server.client, "late", "champion", registered("late", 2))
    assert ledger.append(0, entry("1"))
    assert ledger.append(1, entry("2", "1"))

    ledger.settle()  # a process that wrote version 1 and was delayed

    assert champion(server, "late") == "2"


def test_ledger_does_not_exist_before_the_first_promotion(server: Server) -> None:
    assert Ledger.find(server.client, "unknown", "champion") is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        ([entry("1")], []),
        ([entry("1"), entry("2", "1"), entry("3", "2")], ["1", "2"]),
        ([entry("1"), entry("2", "1"), entry("3", "2"), entry("2", "3", "rollback")], ["1"]),
        ([entry("1"), entry("2", "1"), entry("1", "2", "rollback"), entry("3", "1")], ["1"]),
        ([entry("2", "1")], ["1"]),  # version 1 was not promoted with the ledger
        ([entry("1"), entry("3", "2")], ["1", "2"]),  # version 2 was moved by hand
        ([entry("1"), entry("2", "1"), entry("1", "2"), entry("2", "1", "rollback")], ["1"]),
    ],
)
def test_each_rollback_goes_one_step_further_back(entries: list[Entry], expected: list[str]) -> None:
    assert [version for version, _ in earlier(entries)] == expected
