"""What a run can be told, and what it refuses."""

from collections.abc import Callable

import pytest
from pydantic_settings import CliApp

from tests.training.conftest import Result
from training.settings import Settings

URI = "--mlflow-tracking-uri=http://mlflow:5000"


def test_flag_wins_over_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_MAX_DEPTH", "3")
    monkeypatch.setenv("TRAINING_SEED", "3")

    settings = CliApp.run(Settings, cli_args=[URI, "--max-depth", "5"])

    assert (settings.max_depth, settings.seed) == (5, 3)


def test_tracking_uri_and_commit_keep_their_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    monkeypatch.setenv("GIT_COMMIT", "abc")

    settings = CliApp.run(Settings, cli_args=[])

    assert (settings.mlflow_tracking_uri, settings.git_commit) == ("http://mlflow:5000", "abc")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "--mlflow-tracking-uri (MLFLOW_TRACKING_URI): Field required"),
        ([URI, "--max-depth=0"], "--max-depth (TRAINING_MAX_DEPTH): "),
        ([URI, "--alias=latest"], "MLflow reserves 'latest'"),
        ([URI, "--alias=v2"], "MLflow reserves 'latest'"),
        ([URI, "--model-name=a/b"], "--model-name (TRAINING_MODEL_NAME): "),
        (["--mlflow-tracking-uri=sqlite:///here.db"], "URL scheme should be 'http' or 'https'"),
        (
            ["--mlflow-tracking-uri=http://user:secret@mlflow:5000"],
            "credentials belong in MLFLOW_TRACKING_USERNAME",
        ),
    ],
)
def test_wrong_setting_is_one_sentence_and_exit_code_2(
    run: Callable[..., Result], argv: list[str], problem: str
) -> None:
    result = run(*argv)

    assert result.code == 2
    assert len(result.messages) == 1
    assert problem in result.messages[0]
    assert "secret" not in result.messages[0]
