"""The commands `promote` and `rollback`: files, exit codes and messages."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.harness import environment, process
from tests.training.conftest import Result, Server

NAME = "commanded"
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture(scope="module")
def candidate(server: Server, trained: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return trained(server, NAME, "--rounds=20", "--early-stopping-rounds=0")


def test_candidate_becomes_the_champion_and_rollback_refuses_the_first(
    server: Server, candidate: dict[str, Any], command: Callable[..., Result], tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("candidate", "verified", "promoted")}
    files["candidate"].write_text(json.dumps(candidate))
    verify = ["-m", "app.tools.verify", f"--candidate={files['candidate']}", f"--result={files['verified']}"]
    tracking = {"MODEL_SERVICE_MLFLOW_TRACKING_URI": server.uri}
    with process([*verify, "--max-p99-ms=2000"], tmp_path / "log", **environment("", tmp_path) | tracking) as running:
        assert running.wait(180) == 0, (tmp_path / "log").read_text()
    given = [f"--candidate={files['candidate']}", f"--verification={files['verified']}"]
    address = f"--mlflow-tracking-uri={server.uri}"

    refused = command("promote", address, *given, '--limits={"auc": 1.5}', f"--result={files['promoted']}")
    assert refused.code == 3
    assert json.loads(files["promoted"].read_text())["outcome"] == "refused"
    assert refused.messages[-1].endswith("at least 1.5 is required.")

    message = tmp_path / "message"
    normal = ['--limits={"auc": 1.5}', "--accept-refusal", f"--message={message}", "--once"]
    for _ in range(2):  # a refusal without a champion is judged again
        completed = command("promote", address, *given, *normal)
        assert (completed.code, completed.published) == (0, refused.published)
        assert message.read_text() == refused.messages[-1] + "\n"

    dry = command("promote", address, *given, "--dry-run")
    assert (dry.code, dry.published["outcome"]) == (0, "would be promoted")
    assert server.client.get_registered_model(NAME).aliases.get("champion") is None

    promoted = command("promote", address, *given, '--limits={"auc": 0.9}', f"--result={files['promoted']}")
    assert promoted.code == 0, promoted.messages
    document = json.loads(files["promoted"].read_text())
    assert document == promoted.published
    values = {"uri": candidate["uri"], "sha256": candidate["sha256"]}
    assert (document["outcome"], document["values"]) == ("promoted", {"model": values})
    assert f"model:\n  uri: {candidate['uri']}\n  sha256: {candidate['sha256']}\n" in promoted.messages[-1]
    assert server.client.get_registered_model(NAME).aliases["champion"] == candidate["version"]

    kept = command("promote", address, *given, *normal)
    assert (kept.code, kept.published["outcome"], kept.published["values"]) == (0, "unchanged", {})
    assert re.fullmatch(
        rf"{NAME}@champion: version 1 unchanged: the gate has already decided \(promoted at \S+\): .+\.\n",
        message.read_text(),
    )
    judged = command("promote", address, *given, "--once", "--alias=other", '--limits={"auc": 1.5}')
    assert judged.published["outcome"] == "refused", "a decision counts for its alias only"

    nothing = command("rollback", address, f"--model-name={NAME}")
    assert nothing.code == 3
    assert nothing.messages[-1].endswith(f"the ledger has no champion before version {candidate['version']}.")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give either models:/<name>/<version> or --candidate"),
        (
            ["models:/churn@champion"],
            "'models:/churn@champion' is not models:/<name>/<version>; an alias is not accepted",
        ),
        (["models:/churn/1", "--metric=f2"], "'f2' is not a metric; use one of auc, "),
        (["models:/churn/1", "--limits={"], "limits"),
        (["models:/churn/1", "--alias=latest"], "MLflow reserves 'latest'"),
        (["models:/churn/1", "--alias=v2"], "MLflow reserves 'latest'"),
        (["models:/churn/1", "--confidence=1"], "--confidence (TRAINING_CONFIDENCE): Input should be less than 1"),
        (["--candidate=/nowhere"], "--candidate: /nowhere cannot be read (No such file or directory)."),
        (["models:/churn/1", "--verification=/dev/null"], "--verification: /dev/null is not a valid result file"),
    ],
)
def test_bad_input_is_one_sentence(command: Callable[..., Result], arguments: list[str], problem: str) -> None:
    result = command("promote", "--mlflow-tracking-uri=http://127.0.0.1:9", *arguments)

    assert result.code == 2
    assert problem in result.messages[-1]


def test_unreachable_mlflow_is_exit_code_1(command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    for arguments in (["promote", "models:/churn/1"], ["rollback", "--model-name=churn"]):
        result = command(*arguments, "--mlflow-tracking-uri=http://127.0.0.1:9")

        assert result.code == 1
        assert result.messages[-1].startswith("MLflow at http://127.0.0.1:9 is unreachable")


def test_unknown_version_is_named(server: Server, command: Callable[..., Result]) -> None:
    result = command("promote", "models:/nobody/7", f"--mlflow-tracking-uri={server.uri}")

    assert result.code == 2
    assert "nobody" in result.messages[-1]
