"""Tests of the action that proposes a model version, run like a workflow step in a repository with a remote."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import run
from tools.release.checks import project_version

ACTION = ROOT / ".github" / "actions" / "deploy-model"
EXAMPLE = ROOT / "docs" / "how-to" / "gitops" / "github" / "deploy-model.yaml"
OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout of a GitOps repository with a remote."""
    remote, here = tmp_path / "remote.git", tmp_path / "checkout"
    run(["git", "init", "--quiet", "--bare", "--initial-branch=main", remote])
    run(["git", "clone", "--quiet", remote, here])
    for name in ("argocd.yaml", "flux.yaml"):
        (here / name).write_text((ROOT / "docs" / "how-to" / "gitops" / name).read_text())
    (here / "pinned.yaml").write_text(f"model:\n  uri: models:/churn@champion # the best\n  sha256: {OLD}\n")
    (here / "two.yaml").write_text("a: { uri: models:/churn/1 }\nb: { uri: models:/churn/2 }\n")
    run(["git", "-C", here, "add", "."])
    run(["git", "-C", here, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "models"])
    run(["git", "-C", here, "push", "--quiet", "origin", "HEAD:main"])
    return here


def propose(checkout: Path, file: str, version: str = "8", sha256: str = "", model: str = "churn") -> tuple[int, str]:
    """Run the step and return its exit code and output."""
    inputs = {"MODEL_FILE": file, "MODEL_NAME": model, "MODEL_VERSION": version, "MODEL_SHA256": sha256}
    env = {**os.environ, **inputs, "GITHUB_OUTPUT": str(checkout.parent / "outputs")}
    command = [sys.executable, "-I", str(ACTION / "propose.py")]
    output = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert output.stderr == ""
    return output.returncode, output.stdout


@pytest.mark.parametrize("file", ["argocd.yaml", "flux.yaml"])
def test_proposal_changes_only_the_version_on_a_branch(checkout: Path, file: str) -> None:
    before = (checkout / file).read_text()

    assert propose(checkout, file) == (0, "")

    pushed = run(["git", "-C", checkout.parent / "remote.git", "show", f"deploy/churn-8:{file}"])
    assert pushed == before.replace("models:/churn/7", "models:/churn/8")
    assert run(["git", "-C", checkout.parent / "remote.git", "show", f"main:{file}"]) == before
    outputs = dict(line.split("=", 1) for line in (checkout.parent / "outputs").read_text().splitlines())
    assert outputs["branch"] == "deploy/churn-8"
    assert outputs["title"] == "deploy: churn 8"
    assert "Version 8 of churn instead of 7" in outputs["body"]


def test_alias_is_replaced_by_version_and_digest(checkout: Path) -> None:
    assert propose(checkout, "pinned.yaml", "12", NEW) == (0, "")

    assert (checkout / "pinned.yaml").read_text() == f"model:\n  uri: models:/churn/12 # the best\n  sha256: {NEW}\n"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"file": "nowhere.yaml"}, "nowhere.yaml is not a file in this checkout"),
        ({"file": "flux.yaml", "version": "champion"}, "version=champion is not a number"),
        ({"file": "flux.yaml", "version": "7"}, "has version 7 of churn already"),
        ({"file": "flux.yaml", "model": "fraud"}, "names models:/fraud/… 0 times"),
        ({"file": "flux.yaml", "model": "churn\nbranch=main"}, "is not a valid name of a registered model"),
        ({"file": "two.yaml"}, "names models:/churn/… 2 times"),
        ({"file": "pinned.yaml"}, "pins 1 digests, and 0 is given"),
        ({"file": "flux.yaml", "sha256": NEW}, "pins 0 digests, and 1 is given"),
        ({"file": "pinned.yaml", "sha256": "abc"}, "sha256 is not a digest"),
    ],
)
def test_invalid_input_prints_one_line_and_pushes_nothing(checkout: Path, inputs: dict[str, str], message: str) -> None:
    code, output = propose(checkout, **inputs)

    assert (code, output.count("\n")) == (1, 1)
    assert message in output
    assert run(["git", "-C", checkout, "ls-remote", "--heads", "origin"]).count("\n") == 1
    assert not (checkout.parent / "outputs").exists()


def test_same_version_is_not_proposed_twice(checkout: Path) -> None:
    assert propose(checkout, "flux.yaml") == (0, "")
    run(["git", "-C", checkout, "switch", "--quiet", "-"])

    code, output = propose(checkout, "flux.yaml")

    assert (code, output) == (1, "error: Branch deploy/churn-8 already exists: the version is proposed.\n")


def test_example_matches_the_inputs_of_the_action() -> None:
    action, example = yaml.safe_load((ACTION / "action.yaml").read_text()), yaml.safe_load(EXAMPLE.read_text())
    [job] = example["jobs"].values()
    given = job["steps"][1]

    run(["actionlint", EXAMPLE])
    assert example["permissions"] == {}
    assert job["permissions"] == {"contents": "write", "pull-requests": "write"}
    assert given["uses"] == f"model-service/model-service/.github/actions/deploy-model@v{project_version()}"
    required = {name for name, about in action["inputs"].items() if about.get("required")}
    assert required <= given["with"].keys() <= action["inputs"].keys()
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]  # inputs are never interpolated into scripts


def test_page_shows_the_example() -> None:
    assert "gitops/github/deploy-model.yaml" in (ROOT / "docs" / "how-to" / "gitops.md").read_text()
