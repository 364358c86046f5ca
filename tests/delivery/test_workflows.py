"""Tests of the workflows' files: pinned actions, minimal permissions, and only existing Make targets."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.cluster.cache import ROOT
from tools.cluster.programs import KUBERNETES_VERSION
from tools.release.__main__ import VERBS
from tools.release.publish import ARCHITECTURES

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
ACTIONS = sorted((ROOT / ".github" / "actions").rglob("action.yaml"))
PIN = re.compile(r"uses: ([\w.-]+/[\w./-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# The only write permissions of each job.
WRITES = {
    ("release.yaml", "build"): {"packages"},
    ("release.yaml", "publish"): {"packages", "id-token"},
    ("release.yaml", "announce"): {"contents"},
    ("release.yaml", "deploy"): {"id-token"},
    ("deploy.yaml", "production"): {"id-token"},
    ("docs.yaml", "publish"): {"pages", "id-token"},
    ("scorecard.yaml", "analysis"): {"security-events", "id-token"},
    ("codeql.yaml", "analyze"): {"security-events"},
}
RUNNERS = {"ubuntu-24.04", "${{ matrix.runner }}"}


def load(name: str) -> dict[Any, Any]:
    """Return a workflow. YAML reads its key `on` as true."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text()))


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    """Return the file, name and content of every job."""
    return [(path.name, name, job) for path in WORKFLOWS for name, job in load(path.name)["jobs"].items()]


def test_main_and_tags_run_the_tests_of_pull_requests() -> None:
    release = load("release.yaml")

    assert release[True] == {"push": {"branches": ["main"], "tags": ["v*"]}}
    for name in ("ci", "e2e"):
        assert release["jobs"][name]["uses"] == f"./.github/workflows/{name}.yaml"
        assert load(f"{name}.yaml")[True].keys() == {"pull_request", "workflow_call"}


def test_each_architecture_is_built_and_tested_on_its_own_machine() -> None:
    expected = [
        {"platform": "amd64", "runner": "ubuntu-24.04"},
        {"platform": "arm64", "runner": "ubuntu-24.04-arm"},
    ]

    assert [leg["platform"] for leg in expected] == list(ARCHITECTURES)
    assert load("release.yaml")["jobs"]["build"]["strategy"]["matrix"]["include"] == expected
    assert load("images.yaml")["jobs"]["test"]["strategy"]["matrix"]["include"] == expected


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
            assert job["timeout-minutes"] <= (350 if name == "long" else 90), name
            assert job["runs-on"] in RUNNERS, name
        assert set(re.findall(r"secrets\.(\w+)", str(job))) <= {"GITHUB_TOKEN"}, f"{file}, {name}"
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, f"{file}, {name}"


def test_concurrency_groups_are_unique() -> None:
    groups = [load(path.name)["concurrency"]["group"] for path in WORKFLOWS if "concurrency" in load(path.name)]

    assert len(set(groups)) == len(groups)


def test_no_module_needs_a_newer_go_than_the_pipeline_installs() -> None:
    installed = version((ROOT / ".go-version").read_text())
    modules = {path: path.read_text() for path in (ROOT / "tools").rglob("go.mod")}
    needed = {path: version(re.findall(r"^go (\S+)$", text, re.M)[0]) for path, text in modules.items()}

    assert len(needed) > 10
    assert {path: go for path, go in needed.items() if go > installed} == {}
    assert not [path for path, text in modules.items() if re.search(r"^toolchain ", text, re.M)]


def version(text: str) -> tuple[int, ...]:
    """Return a version as numbers."""
    return tuple(int(part) for part in text.strip().split("."))


def test_cluster_tests_run_with_both_helms_and_the_oldest_and_newest_kubernetes() -> None:
    matrix = load("e2e.yaml")["jobs"]["kind"]["strategy"]["matrix"]

    assert [version.partition(".")[0] for version in matrix["helm"]] == ["v3", "v4"]
    promised = re.search(r"kubeVersion: \">=(1\.\d+)", (ROOT / "charts/model-service/Chart.yaml").read_text())
    assert promised
    newest = KUBERNETES_VERSION.rpartition(".")[0]
    assert [re.findall(r":v(1\.\d+)", node)[0] for node in matrix["node"]] == [promised[1], newest]
    assert all(re.fullmatch(r"kindest/node:v[\d.]+@sha256:[0-9a-f]{64}", node) for node in matrix["node"])


def test_every_night_runs_what_no_push_runs() -> None:
    nightly = load("nightly.yaml")
    ran = {step["run"] for job in nightly["jobs"].values() for step in job["steps"] if "run" in step}

    assert nightly[True].keys() == {"schedule", "workflow_dispatch"}
    assert ran >= {"make test-long", "make release-audit", "make e2e"}
    assert nightly["jobs"]["ipv6"]["steps"][2]["env"] == {"IP_FAMILY": "ipv6"}
