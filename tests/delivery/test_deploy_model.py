"""Tests of the action that proposes a model version, run like a workflow step in a repository with a remote."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import run
from tools.release.checks import project_version

ACTION = ROOT / ".github" / "actions" / "deploy-model"
EXAMPLES = ROOT / "docs" / "how-to" / "gitops"
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


def propose(
    checkout: Path,
    file: str,
    version: str = "8",
    sha256: str = "",
    model: str = "churn",
    more: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run the step with further variables and return its exit code and output."""
    inputs = {"MODEL_FILE": file, "MODEL_NAME": model, "MODEL_VERSION": version, "MODEL_SHA256": sha256}
    env = {**os.environ, **inputs, **(more or {}), "GITHUB_OUTPUT": str(checkout.parent / "outputs")}
    command = [sys.executable, "-I", str(ACTION / "propose.py")]
    output = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=300, check=False)
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
        ({"file": "flux.yaml", "model": "fraud"}, "names models:/fraud/… 0 times"),
        ({"file": "flux.yaml", "model": "churn\nbranch=main"}, "is not a valid name of a registered model"),
        ({"file": "two.yaml"}, "names models:/churn/… 2 times"),
        ({"file": "pinned.yaml"}, "pins 1 digests, and 0 is given"),
        ({"file": "flux.yaml", "sha256": NEW}, "pins 0 digests, and 1 is given"),
        ({"file": "pinned.yaml", "sha256": "abc"}, "sha256 is not a digest"),
    ],
)
def test_invalid_input_prints_one_line_and_pushes_nothing(checkout: Path, inputs: dict[str, Any], message: str) -> None:
    code, output = propose(checkout, **inputs)

    assert (code, output.count("\n")) == (1, 1)
    assert message in output
    assert run(["git", "-C", checkout, "ls-remote", "--heads", "origin"]).count("\n") == 1
    assert not (checkout.parent / "outputs").exists()


def remote_commit(checkout: Path, branch: str = "deploy/churn-8") -> str:
    return run(["git", "-C", checkout.parent / "remote.git", "rev-parse", branch])


def committed(checkout: Path, file: str, text: str, author: str = "t@t") -> None:
    """Write a file and push the commit to the branch that is checked out."""
    (checkout / file).write_text(text)
    run(["git", "-C", checkout, "-c", "user.name=t", "-c", f"user.email={author}", "commit", "--quiet", "-am", "more"])
    run(["git", "-C", checkout, "push", "--quiet", "origin", "HEAD"])


def test_branch_of_a_run_that_failed_later_is_used_again(checkout: Path) -> None:
    assert propose(checkout, "flux.yaml") == (0, "")
    first = remote_commit(checkout)
    run(["git", "-C", checkout, "switch", "--quiet", "main"])

    assert propose(checkout, "flux.yaml") == (0, "")

    assert remote_commit(checkout) == first
    assert (checkout.parent / "outputs").read_text().count("branch=deploy/churn-8\n") == 2, (
        "the next step gets it again"
    )


def test_branch_of_an_earlier_state_of_the_file_is_replaced(checkout: Path) -> None:
    assert propose(checkout, "flux.yaml") == (0, "")
    run(["git", "-C", checkout, "switch", "--quiet", "main"])
    newer = (checkout / "flux.yaml").read_text().replace("models:/churn/7", "models:/churn/9")
    committed(checkout, "flux.yaml", newer)
    run(["git", "-C", checkout, "branch", "--quiet", "-D", "deploy/churn-8"])

    assert propose(checkout, "flux.yaml") == (0, "")

    remote = checkout.parent / "remote.git"
    assert run(["git", "-C", remote, "show", "deploy/churn-8~1:flux.yaml"]) == newer
    assert "models:/churn/8" in run(["git", "-C", remote, "show", "deploy/churn-8:flux.yaml"])


def test_commits_of_others_are_kept(checkout: Path) -> None:
    assert propose(checkout, "flux.yaml") == (0, "")
    committed(checkout, "flux.yaml", (checkout / "flux.yaml").read_text() + "# mine\n", "ann@example.com")
    theirs = remote_commit(checkout)
    run(["git", "-C", checkout, "switch", "--quiet", "main"])

    code, output = propose(checkout, "flux.yaml")

    assert code == 1
    assert output == "error: Branch deploy/churn-8 has a commit of ann@example.com: merge or delete the branch.\n"
    assert remote_commit(checkout) == theirs


@dataclass
class Registry:
    """An MLflow server that knows one alias, by the REST API of MLflow."""

    address: str
    version: str = "8"
    digest: str = NEW
    seen: list[tuple[str, str]] = field(default_factory=list)  # path, Authorization


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Registry whose model `churn` has the alias `champion`."""
    found = Registry("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            found.seen.append((self.path, self.headers.get("Authorization", "")))
            known = path == "/api/2.0/mlflow/registered-models/alias" and query == "name=churn&alias=champion"
            tags = [{"key": "sha256", "value": found.digest}] if found.digest else []
            content = {"model_version": {"name": "churn", "version": found.version, "tags": tags}} if known else {}
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.address = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


def follow(checkout: Path, registry: Registry, file: str, alias: str = "champion", **more: str) -> tuple[int, str]:
    return propose(checkout, file, "", more=({"MODEL_ALIAS": alias, "MLFLOW_TRACKING_URI": registry.address} | more))


def test_alias_is_resolved_with_its_digest(checkout: Path, registry: Registry) -> None:
    assert follow(checkout, registry, "pinned.yaml", MLFLOW_TRACKING_TOKEN="abc") == (0, "")  # noqa: S106 - ours

    assert (checkout / "pinned.yaml").read_text() == f"model:\n  uri: models:/churn/8 # the best\n  sha256: {NEW}\n"
    assert [authorization for _, authorization in registry.seen] == ["Bearer abc"]


def test_password_is_sent_and_an_unpinned_file_gets_no_digest(checkout: Path, registry: Registry) -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "p"}

    assert follow(checkout, registry, "flux.yaml", **login) == (0, "")

    assert registry.seen[0][1] == "Basic YW5uOnA="
    assert NEW not in (checkout / "flux.yaml").read_text()


def test_alias_that_has_not_moved_changes_nothing(checkout: Path, registry: Registry) -> None:
    registry.version = "7"

    assert follow(checkout, registry, "flux.yaml") == (0, "The file has version 7 of churn already.\n")

    assert run(["git", "-C", checkout, "ls-remote", "--heads", "origin"]).count("\n") == 1
    assert not (checkout.parent / "outputs").exists(), "so the step that opens the pull request is skipped"


def test_new_digest_of_the_same_version_is_proposed(checkout: Path) -> None:
    committed(checkout, "pinned.yaml", f"uri: models:/churn/8\nsha256: {OLD}\n")

    assert propose(checkout, "pinned.yaml", "8", NEW) == (0, "")
    assert propose(checkout, "pinned.yaml", "8", NEW) == (0, "The file has version 8 of churn already.\n")


@pytest.mark.parametrize(
    ("alias", "address", "message"),
    [
        ("best", None, "knows no such alias"),
        ("champion", "http://127.0.0.1:9", "is unreachable or is not MLflow (URLError)"),
        ("champion", "mlflow.example", "tracking-uri='mlflow.example' is not a URL"),
    ],
)
def test_unresolved_alias_prints_one_line_and_pushes_nothing(
    checkout: Path, registry: Registry, alias: str, address: str | None, message: str
) -> None:
    code, output = follow(checkout, registry, "flux.yaml", alias, MLFLOW_TRACKING_URI=address or registry.address)

    assert (code, output.count("\n")) == (1, 1)
    assert message in output
    assert not (checkout.parent / "outputs").exists()


def test_alias_without_a_registered_digest_is_refused_if_the_file_pins_one(checkout: Path, registry: Registry) -> None:
    registry.digest = ""

    code, output = follow(checkout, registry, "pinned.yaml")

    assert (code, "pins 1 digests, and 0 is given" in output) == (1, True)


@pytest.mark.parametrize("inputs", [{"version": ""}, {"version": "8", "more": {"MODEL_ALIAS": "champion"}}])
def test_version_and_alias_exclude_each_other(checkout: Path, inputs: dict[str, Any]) -> None:
    code, output = propose(checkout, "flux.yaml", **inputs)

    assert (code, "give exactly one of them" in output) == (1, True)


def test_gitlab_opens_the_merge_request_with_the_push(checkout: Path) -> None:
    remote = checkout.parent / "remote.git"
    run(["git", "-C", remote, "config", "receive.advertisePushOptions", "true"])
    hook = remote / "hooks" / "post-receive"
    hook.write_text("#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION | sort > options\n")
    hook.chmod(0o755)

    assert propose(checkout, "flux.yaml", more={"GITLAB_CI": "true", "CI_DEFAULT_BRANCH": "main"}) == (0, "")

    assert (remote / "options").read_text().splitlines() == [
        "GIT_PUSH_OPTION_0=merge_request.create",
        "GIT_PUSH_OPTION_1=merge_request.target=main",
        "GIT_PUSH_OPTION_2=merge_request.title=deploy: churn 8",
        "GIT_PUSH_OPTION_3=merge_request.remove_source_branch",
        "GIT_PUSH_OPTION_COUNT=4",
    ]


GH = """#!/usr/bin/env python3
import json, os, pathlib, sys
here = pathlib.Path(os.environ["GH_STATE"])
pulls = json.loads((here / "pulls.json").read_text())
arguments = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(" ".join(arguments[:3]) + "\\n")
if arguments[1] == "list":
    if "--head" in arguments:
        head = arguments[arguments.index("--head") + 1]
        pulls = [each for each in pulls if each["headRefName"] == head]
    if arguments[arguments.index("--state") + 1] == "open":
        pulls = [each for each in pulls if each["state"] == "OPEN"]
    print(json.dumps(pulls))
elif arguments[1] == "create" and (here / "forbidden").exists():
    sys.exit("pull request create failed: GitHub Actions is not permitted to create or approve pull requests")
"""


def opened(folder: Path, pulls: list[dict[str, Any]], alias: str = "champion") -> tuple[int, str, list[str]]:
    """Run the step that opens the pull request with a client that has these; return code, output and calls."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "gh").write_text(GH)
    (folder / "bin" / "gh").chmod(0o755)
    (folder / "pulls.json").write_text(json.dumps(pulls))
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    inputs = {"BRANCH": "deploy/churn-8", "TITLE": "t", "BODY": "b", "ALIAS": alias, "GH_STATE": str(folder)}
    done = subprocess.run(
        [sys.executable, "-I", ACTION / "open.py"],
        env=os.environ | inputs | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, (folder / "calls").read_text().splitlines()


def pull(number: int, head: str, state: str = "OPEN") -> dict[str, Any]:
    return {"number": number, "headRefName": head, "state": state}


def test_pull_request_replaces_those_of_earlier_versions(tmp_path: Path) -> None:
    others = [pull(1, "deploy/churn-7"), pull(2, "deploy/churn-risk-7"), pull(3, "deploy/churn-fix"), pull(4, "main-7")]

    code, _, calls = opened(tmp_path, others)

    assert code == 0
    assert [call for call in calls if "list" not in call] == ["pr create --head", "pr close 1"]


@pytest.mark.parametrize(
    ("state", "alias", "creates"),
    [
        ("OPEN", "champion", False), ("OPEN", "", False),
        ("CLOSED", "champion", False), ("CLOSED", "", True),
        ("MERGED", "champion", True),
    ],
)  # fmt: skip
def test_pull_request_is_opened_once(tmp_path: Path, state: str, alias: str, creates: bool) -> None:
    code, _, calls = opened(tmp_path, [pull(5, "deploy/churn-8", state)], alias)

    assert (code, "pr create --head" in calls) == (0, creates)


def test_missing_permission_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "forbidden").touch()

    code, output, _ = opened(tmp_path, [])

    assert code == 1
    assert "Allow GitHub Actions to create and approve pull requests" in output
    assert "The next run uses the branch." in output


@pytest.mark.parametrize("name", ["deploy-model.yaml", "follow-alias.yaml"])
def test_example_matches_the_inputs_of_the_action(name: str) -> None:
    path = EXAMPLES / "github" / name
    action, example = yaml.safe_load((ACTION / "action.yaml").read_text()), yaml.safe_load(path.read_text())
    [job] = example["jobs"].values()
    given = job["steps"][1]

    run(["actionlint", path])
    assert example["permissions"] == {}
    assert job["permissions"] == {"contents": "write", "pull-requests": "write"}
    assert given["uses"] == f"model-service/model-service/.github/actions/deploy-model@v{project_version()}"
    required = {name for name, about in action["inputs"].items() if about.get("required")}
    assert required <= given["with"].keys() <= action["inputs"].keys()
    assert ("alias" in given["with"]) != ("version" in given["with"])
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]  # inputs are never interpolated into scripts


def test_gitlab_example_runs_the_program_with_its_variables() -> None:
    example = yaml.safe_load((EXAMPLES / "gitlab" / "deploy-model.yaml").read_text())
    [job] = example.values()
    program = (ROOT / job["script"][-1].partition("/tmp/model-service/")[2]).read_text()  # noqa: S108 - of the runner
    given = set(job["variables"]) | {name for rule in job["rules"] for name in rule.get("variables", ())}

    assert job["variables"]["RELEASE"] == f"v{project_version()}"
    assert {name for name in given if name != "RELEASE"} == {
        "MODEL_FILE", "MODEL_NAME", "MODEL_ALIAS", "MLFLOW_TRACKING_URI"
    }  # fmt: skip
    assert all(f'"{name}"' in program for name in given - {"RELEASE"})


def test_page_shows_the_examples() -> None:
    page = (ROOT / "docs" / "how-to" / "gitops.md").read_text()

    for path in EXAMPLES.glob("git*/*.yaml"):
        assert f"gitops/{path.relative_to(EXAMPLES)}" in page
