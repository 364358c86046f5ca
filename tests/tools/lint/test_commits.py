"""Tests of the checks of commit subjects, from a message file and from a range."""

import subprocess
from pathlib import Path

import pytest

from tools.lint.commits import complaint, main


@pytest.mark.parametrize(
    "subject",
    [
        "feat(chart): add a probe",
        "fix: use the last known good model",
        "refactor(app)!: move the context variables to app/context.py",
        "docs: " + "x" * 66,
        "Merge branch 'main' into release",
        'Revert "feat(chart): add a probe"',
        "perf(model): speed up the parser",
    ],
)
def test_good_subjects_pass(subject: str) -> None:
    assert complaint(subject) == ""


@pytest.mark.parametrize(
    ("subject", "named"),
    [
        ("docs: " + "x" * 67, "73 characters"),
        ("add a probe", "type(scope): imperative"),
        ("feature: add a probe", "one of the types"),
        ("feat(chart): Add a probe", "lower case"),
        ("feat(chart): added a probe", "imperative"),
        ("feat(chart): adding a probe", "imperative"),
        ("feat(chart): add a probe.", "full stop"),
        ("feat(chart):add a probe", "type(scope): imperative"),
    ],
)
def test_bad_subjects_are_rejected_with_the_reason(subject: str, named: str) -> None:
    assert named in complaint(subject)


def test_message_file_is_read_without_comments_and_body(tmp_path: Path) -> None:
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text("# Please enter the message\n\nfeat: add a probe\n\nBecause it was added.\n")

    assert main(str(message)) == 0
    message.write_text("Added a probe\n")
    assert main(str(message)) == 1


def test_range_checks_only_new_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    for subject in ("Old style", "feat: add a probe", "Bad one", "fix: keep the probe"):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", subject], check=True)

    assert main("HEAD~3..HEAD") == 1
    assert capsys.readouterr().err.splitlines()[0] == "Bad one"
    assert main("HEAD~1..HEAD") == 0
    assert main(f"{'0' * 40}..HEAD") == 0
