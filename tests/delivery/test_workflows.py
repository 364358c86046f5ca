"""Tests that the workflows only call existing Make targets, and that a failed job stops the ones after it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.programs import KUBERNETES_VERSION
from tools.release.__main__ import VERBS
from tools.release.publish import PLATFORMS

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
ACTIONS = sorted((ROOT / ".github" / "actions").rglob("action.yaml"))
PIN = re.compile(r"uses: ([\w.-]+/[\w./-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# The only write permissions of each job.
WRITES = {("release.yaml", "publish"): {"packages", "id-token"}, ("release.yaml", "deploy"): {"id-token"},
          ("release.yaml", "announce"): {"contents"}, ("docs.yaml", "publish"): {"pages", "id-token"}}  # fmt: skip


def load(name: str) -> dict[Any, Any]:
    """Return a workflow. YAML reads its key `on` as true."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text()))


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    """Return the file, name and content of every job."""
    return [(path.name, name, job) for path in WORKFLOWS for name, job in load(path.name)["jobs"].items()]


def before(name: str, jobs: dict[str, Any]) -> set[str]:
    """Return the jobs that must succeed before a job starts."""
    needs = jobs[name].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(before(other, jobs) for other in direct))


def test_release_stops_at_the_first_failed_job() -> None:
    release = load("release.yaml")["jobs"]

    assert before("publish", release) == {"check", "audit", "ci", "e2e"}
    assert before("scan", release) == before("publish", release) | {"publish"}
    assert before("deploy", release) == before("scan", release) | {"scan"}
    assert before("announce", release) == before("deploy", release) | {"deploy"}
    assert not [job for job in release.values() if "always()" in str(job.get("if")) or job.get("continue-on-error")]


def test_main_and_tags_run_the_tests_of_pull_requests() -> None:
    release = load("release.yaml")

    assert release[True] == {"push": {"branches": ["main"], "tags": ["v*"]}}
    for name in ("ci", "e2e"):
        assert release["jobs"][name]["uses"] == f"./.github/workflows/{name}.yaml"
        assert load(f"{name}.yaml")[True].keys() == {"pull_request", "workflow_call"}


def test_images_are_signed_and_verified_before_deployment() -> None:
    release = load("release.yaml")["jobs"]
    ran = {name: [step["run"] for step in job.get("steps", ()) if "run" in step] for name, job in release.items()}

    assert ran["publish"] == [f"make release-{verb}" for verb in ("images", "charts", "sign", "verify")]
    assert ran["deploy"] == ["make release-verify", "make release-deploy"]
    assert PLATFORMS == "linux/amd64,linux/arm64"


def test_every_run_step_is_an_existing_make_target() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    targets |= {f"release-{verb}" for verb in VERBS}

    for file, name, job in jobs():
        for step in job.get("steps", ()):
            line = step.get("run", "make help")
            install = re.fullmatch(r'go install "[\w./-]+@\$\{[A-Z_]+_VERSION\}"', line)
            assert install or line.removeprefix("make ") in targets, f"{file}, {name}: {line}"


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: str(path.relative_to(ROOT / ".github")))
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = [line.strip().removeprefix("- ") for line in path.read_text().splitlines() if "uses: " in line]

    assert [line for line in used if not (PIN.fullmatch(line) or line.startswith("uses: ./.github/"))] == []


def test_action_has_the_same_commit_everywhere() -> None:
    files = [*WORKFLOWS, *ACTIONS, *(ROOT / "docs" / "how-to" / "gitops" / "github").glob("*.yaml")]
    pins = {pin for path in files for pin in re.findall(r"uses: (\S+)@(\S+) # \S+", path.read_text())}

    assert len({action for action, _ in pins}) == len(pins)


def test_permissions_are_minimal() -> None:
    for path in WORKFLOWS:
        assert load(path.name)["permissions"] == {}, path.name
    for file, name, job in jobs():
        given = job["permissions"]
        assert {what for what, how in given.items() if how == "write"} == WRITES.get((file, name), set()), name


def test_jobs_have_timeout_pinned_runner_and_no_stored_secret() -> None:
    for file, name, job in jobs():
        if "uses" not in job:
            assert job["timeout-minutes"] <= 90, name
            assert job["runs-on"] == "ubuntu-24.04", name
        assert set(re.findall(r"secrets\.(\w+)", str(job))) <= {"GITHUB_TOKEN"}, f"{file}, {name}"
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, f"{file}, {name}"


def test_concurrency_groups_are_unique() -> None:
    assert load("release.yaml")["concurrency"]["cancel-in-progress"] is False
    assert len({load(path.name)["concurrency"]["group"] for path in WORKFLOWS}) == len(WORKFLOWS)


def test_cluster_tests_run_with_both_helms_and_the_oldest_and_newest_kubernetes() -> None:
    matrix = load("e2e.yaml")["jobs"]["kind"]["strategy"]["matrix"]

    assert [version.partition(".")[0] for version in matrix["helm"]] == ["v3", "v4"]
    promised = re.search(r"kubeVersion: \">=(1\.\d+)", (ROOT / "charts/model-service/Chart.yaml").read_text())
    assert promised
    newest = KUBERNETES_VERSION.rpartition(".")[0]
    assert [re.findall(r":v(1\.\d+)", node)[0] for node in matrix["node"]] == [promised[1], newest]
    assert all(re.fullmatch(r"kindest/node:v[\d.]+@sha256:[0-9a-f]{64}", node) for node in matrix["node"])
