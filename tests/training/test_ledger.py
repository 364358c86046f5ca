"""The order of promotions, against a real MLflow server and several processes at once."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import mlflow
import pytest

from tests.training.conftest import Server
from training.ledger import Entry, Ledger, earlier


def entry(version: str, previous: str = "", action: str = "promote") -> Entry:
    return Entry(action, version, f"sha-{version}", previous, f"sha-{previous}")  # type: ignore[arg-type]


@pytest.fixture
def registered(server: Server) -> Callable[[str, int], str]:
    """Return a function that registers so many versions of a name, and returns the id of an experiment."""

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
    """Promote the version again and again, as a process of its own: read, wait for the others, write."""
    client = mlflow.MlflowClient(uri)
    start.wait()
    ledger = Ledger.open(client, name, "champion", experiment)  # the others make it too
    for _ in range(rounds):
        start.wait()
        known = len(ledger.entries())
        start.wait()
        if ledger.append(known, entry(version)):
            ledger.settle()
            wins.put(version)


@pytest.mark.parametrize(("racers", "rounds"), [(2, 20), pytest.param(4, 250, marks=pytest.mark.long)])
def test_of_several_at_once_one_wins_and_the_alias_is_its(
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
        winners.append(wins.get(timeout=60))
    for process in processes:
        process.join(60)

    ledger = Ledger.find(server.client, name, "champion")
    assert ledger is not None
    assert [each.version for each in ledger.entries()] == winners
    assert wins.empty()
    assert champion(server, name) == winners[-1]
    runs = server.client.search_runs([experiment], "attributes.run_name != 'training'")
    assert [run.info.run_id for run in runs] == [ledger.run_id]  # who came second took theirs away


def test_what_broke_off_is_finished_and_what_was_moved_by_hand_stays(
    server: Server, registered: Callable[[str, int], str]
) -> None:
    ledger = Ledger.open(server.client, "mended", "champion", registered("mended", 2))
    assert ledger.append(0, entry("1"))
    assert not ledger.append(0, entry("2"))  # too late

    ledger.mend()
    assert champion(server, "mended") == "1"

    server.client.set_registered_model_alias("mended", "champion", "2")
    ledger.mend()
    assert champion(server, "mended") == "2"


def test_a_late_process_moves_the_alias_to_the_latest(server: Server, registered: Callable[[str, int], str]) -> None:
    ledger = Ledger.open(server.client, "late", "champion", registered("late", 2))
    assert ledger.append(0, entry("1"))
    assert ledger.append(1, entry("2", "1"))

    ledger.settle()  # of who wrote version 1 and was held up since

    assert champion(server, "late") == "2"


def test_nothing_was_promoted_yet(server: Server) -> None:
    assert Ledger.find(server.client, "unknown", "champion") is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        ([entry("1")], []),
        ([entry("1"), entry("2", "1"), entry("3", "2")], ["1", "2"]),
        ([entry("1"), entry("2", "1"), entry("3", "2"), entry("2", "3", "rollback")], ["1"]),
        ([entry("1"), entry("2", "1"), entry("1", "2", "rollback"), entry("3", "1")], ["1"]),
        ([entry("2", "1")], ["1"]),  # version 1 was no work of ours
        ([entry("1"), entry("3", "2")], ["1", "2"]),  # version 2 by hand
        ([entry("1"), entry("2", "1"), entry("1", "2"), entry("2", "1", "rollback")], ["1"]),
    ],
)
def test_a_rollback_goes_one_step_further_back_each_time(entries: list[Entry], expected: list[str]) -> None:
    assert [version for version, _ in earlier(entries)] == expected
