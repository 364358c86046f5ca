"""Tests of the style rules: every pattern is found in each kind of file, and plain English passes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tools.lint.language import Finding, check, files, main, program

SENTENCES = yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text())
FILES = {
    "page.md": "# Title\n\nThe body\nis no JSON.\n",
    "module.py": '"""Noun."""\n\n# The body\n# is no JSON.\n',
    "docstring.py": '"""Noun.\n\nArgs:\n    body: is no JSON\n"""\n',
    "message.py": '\n\nraise ValueError("the body is " f"no JSON")\n'.replace("\n\nraise", "\n\n\nraise"),
    "values.yaml": "a:\n  # -- Whether it is read\n  # when the body\n  # is no JSON.\n  b: 1\n",
    "rules.yaml": "a:\n\n\n  description: The body is no JSON.\n",
    "templates/validate.yaml": '{{- if .Values.a }}\n\n\n{{- fail (printf "a=%s is no JSON" .Values.a) }}\n',
    "templates/NOTES.txt": "Served by {{ .Release.Name }}.\n\n\nThe body is no JSON.\n",
    "Makefile": "\n\n\nverb: ## Check that it is no JSON\n",
    "main.go": "package main\n\n\n// The body is no JSON.\n",
    "page.html": "<p>\n\n\nThe body is no JSON.</p>\n",
}
Check = Callable[[str, str], list[Finding]]


@pytest.fixture(scope="session")
def vale() -> Path:
    """Return Vale, building it if needed."""
    return program()


@pytest.fixture
def found(vale: Path, tmp_path: Path) -> Check:
    """Return a function that writes a file and returns its findings."""

    def write(name: str, text: str) -> list[Finding]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return check([Path(name)], vale, tmp_path)

    return write


def test_old_sentences_are_found_and_new_ones_pass(found: Check) -> None:
    before = found("before.md", "\n\n".join(sentence["was"] for sentence in SENTENCES) + "\n")
    after = found("after.md", "\n\n".join(sentence["better"] for sentence in SENTENCES) + "\n")

    rules = {(finding.line, finding.rule) for finding in before}
    assert [
        sentence["was"]
        for number, sentence in enumerate(SENTENCES)
        if (2 * number + 1, f"House.{sentence['rule']}") not in rules
    ] == []
    assert after == []


@pytest.mark.parametrize("name", FILES)
def test_finding_has_the_line_of_the_file(found: Check, name: str) -> None:
    (finding,) = [finding for finding in found(name, FILES[name]) if finding.severity == "error"]

    assert (finding.path, finding.rule) == (name, "House.IsNo")
    assert finding.line == (5 if name == "docstring.py" else 4) - (name == "docstring.py")


def test_code_is_not_prose(found: Check) -> None:
    assert found("page.md", "Set `it is no JSON`:\n\n```sh\necho it is no JSON\n```\n") == []
    assert found("module.py", '"""Noun."""\n\nis_no = {"is": "no", "who": 1}  # `who waits`\n') == []


def test_chain_of_semicolons_ends_with_its_passage(found: Check) -> None:
    chained = found("module.py", '"""Noun."""\n\n# It reads a; it writes\n# b; it closes c.\n')
    separate = found("strings.py", '"""Noun."""\n\na = ["it reads a; it writes b", "it opens c; it closes d"]\n')

    assert [finding.rule for finding in chained] == ["House.Chain"]
    assert separate == []


def test_only_modules_and_classes_are_noun_phrases(found: Check) -> None:
    source = '"""Return the key."""\n\n\ndef key() -> str:\n    """Return the key."""\n    return ""\n'

    assert [(finding.line, finding.rule) for finding in found("module.py", source)] == [(1, "House.Headline")]


def test_generated_files_are_excluded() -> None:
    names = {str(path) for path in files([], Path.cwd())}

    assert {"README.md", "charts/model-service/values.yaml", "app/settings.py"} <= names
    assert not names & {"charts/model-service/README.md", "uv.lock", "LICENSE", "tests/tools/lint/test_language.py"}


def test_repository_has_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--errors"]) == 0, capsys.readouterr().out
