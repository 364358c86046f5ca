"""Options from flags, variables and files, and invalid ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.conftest import Result
from training.__main__ import main
from training.train_options import TrainOptions

URI = "--mlflow-tracking-uri=http://mlflow:5000"


def test_flag_overrides_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_MAX_DEPTH", "3")
    monkeypatch.setenv("TRAINING_SEED", "3")

    settings = TrainOptions.load("train", [URI, "--max-depth", "5"])

    assert (settings.max_depth, settings.seed) == (5, 3)


def test_tracking_uri_and_commit_keep_their_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    monkeypatch.setenv("GIT_COMMIT", "abc")

    settings = TrainOptions.load("train", [])

    assert (settings.mlflow_tracking_uri, settings.git_commit) == ("http://mlflow:5000", "abc")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "rounds: 7\nseed: 5\ntrain: {max-depth: 9}\npromote: {margin: 1}\n"),
        ("a.toml", "rounds = 7\nseed = 5\n[train]\nmax_depth = 9\n[promote]\nmargin = 1\n"),
        ("a.json", '{"rounds": 7, "seed": 5, "train": {"max_depth": 9}, "promote": {"margin": 1}}'),
    ],
)
def test_variables_and_flags_override_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("TRAINING_SEED", "3")

    settings = TrainOptions.load("train", [URI, "--config", str(tmp_path / name), "--rounds=8"])

    assert (settings.max_depth, settings.seed, settings.rounds) == (9, 3, 8)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("a: [", "is not valid: "),
        ("[1]", "does not contain options by name"),
        ("train: 1", "section train of"),
        ("rouns: 1", "rouns is not an option of this command"),
        ("rounds: many", "--rounds (TRAINING_ROUNDS): "),
    ],
)
def test_invalid_file_is_one_sentence_and_exit_code_2(
    run: Callable[..., Result], tmp_path: Path, text: str | None, problem: str
) -> None:
    file = tmp_path / "options.yaml"
    if text is not None:
        file.write_text(text)

    result = run(URI, f"--config={file}")

    assert (result.code, len(result.messages)) == (2, 1)
    assert problem in result.messages[0]


def test_train_has_no_option_that_moves_an_alias(
    run: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "options.yaml").write_text("train: {alias: champion}")

    with pytest.raises(SystemExit) as flag:
        main(["train", URI, "--alias=champion"])
    said = capsys.readouterr().err
    file = run(URI, f"--config={tmp_path}/options.yaml")

    assert flag.value.code == 2
    assert "unrecognized arguments: --alias=champion" in said
    assert (file.code, file.messages) == (2, ["alias is not an option of this command"])


def test_unknown_command_is_exit_code_2_and_help_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main([]), main(["trian"]), main(["--help"])) == (2, 2, 0)
    assert "train a model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "--mlflow-tracking-uri (MLFLOW_TRACKING_URI): Field required"),
        ([URI, "--max-depth=0"], "--max-depth (TRAINING_MAX_DEPTH): "),
        ([URI, "--model-name=a/b"], "--model-name (TRAINING_MODEL_NAME): "),
        (["--mlflow-tracking-uri=sqlite:///here.db"], "URL scheme should be 'http' or 'https'"),
        (
            ["--mlflow-tracking-uri=http://user:secret@mlflow:5000"],
            "credentials belong in MLFLOW_TRACKING_USERNAME",
        ),
    ],
)
def test_invalid_setting_is_one_sentence_and_exit_code_2(
    run: Callable[..., Result], argv: list[str], problem: str
) -> None:
    result = run(*argv)

    assert result.code == 2
    assert len(result.messages) == 1
    assert problem in result.messages[0]
    assert "secret" not in result.messages[0]
