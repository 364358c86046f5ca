"""Tests of release.yaml as act runs it: which jobs run, in which order, and what they get."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.delivery.act import QUEUE, Repository, Run
from tools.cluster.cache import ROOT
from tools.release.__main__ import release_registry

TAG = "refs/tags/v0.1.0"
DEPLOY = {
    "DEPLOY_SERVER": "https://cluster.example:6443", "DEPLOY_CA": "Q0E=", "DEPLOY_VALUES": "values/production.yaml",
    "DEPLOY_RELEASE": "churn", "DEPLOY_NAMESPACE": "serving", "DEPLOY_TIMEOUT": "7m",
}  # fmt: skip
CI = {"lint", "unit", "charts", "audit"}
PUBLISH = [f"release-{verb}" for verb in ("images", "charts", "sign", "verify", "tag")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Return a fork without settings."""
    return Repository(tmp_path_factory.mktemp("fork"))


@pytest.fixture(scope="module")
def pushed(repository: Repository) -> Run:
    """Return the run of the first push to main."""
    return repository.push()


def test_first_push_of_a_fork_is_green_and_publishes(pushed: Run) -> None:
    assert pushed.green, pushed.output[-3000:]
    order = pushed.jobs()
    assert order[0] == "check"
    assert set(order[1:5]) == CI
    assert order[5] == "build"
    assert set(order[6:8]) == {"test", "kind"}
    assert order[8:] == ["publish"]
    assert pushed.verbs("publish") == PUBLISH


def test_jobs_get_their_matrix_and_the_digests_of_the_build(pushed: Run) -> None:
    helms = {(call.environment["HELM_VERSION"], call.environment["KIND_NODE_IMAGE"]) for call in pushed.make("e2e")}
    matrix = yaml.safe_load((ROOT / ".github/workflows/e2e.yaml").read_text())["jobs"]["kind"]["strategy"]["matrix"]
    scanned = {call.inputs["image"] for call in pushed.actions("anchore/scan-action")}

    assert helms == {(helm, node) for helm in matrix["helm"] for node in matrix["node"]}
    assert {call.environment["BUILT_IMAGES"] for call in pushed.make("e2e")} == {"build/built/amd64.json"}
    assert {call.environment["BUILT_IMAGES"] for call in pushed.make("docker")} == {
        "build/built/amd64.json", "build/built/arm64.json",
    }  # fmt: skip
    assert len(pushed.make("release-build")) == 2
    assert {image.partition("@")[0] for image in scanned} == {
        f"ghcr.io/model-service/model-service{suffix}" for suffix in ("", "-training", "-mlflow")
    }


def test_publishing_jobs_install_only_the_release_group(pushed: Run) -> None:
    jobs = {call.job for call in pushed.calls if call.environment.get("MODEL_SERVICE_GROUP") == "release"}

    assert jobs == {"check", "build", "publish"}


def test_each_job_has_its_own_cache_of_programs(pushed: Run) -> None:
    keys = {call.job: call.inputs["key"] for call in pushed.actions("actions/cache")}

    assert keys.keys() == {"lint", "charts", "kind"}
    assert len(set(keys.values())) == 3
    assert {call.inputs["go-version-file"] for call in pushed.actions("actions/setup-go")} == {".go-version"}


def test_failed_unit_test_stops_before_the_build(repository: Repository) -> None:
    stopped = repository.push(red="unit")

    assert not stopped.green
    assert stopped.jobs()[0] == "check"
    assert set(stopped.jobs()) <= {"check", *CI}


def test_finding_on_a_platform_stops_before_a_tag_moves(repository: Repository) -> None:
    stopped = repository.push(red="docker")

    assert not stopped.green
    assert "publish" not in stopped.jobs()


def test_tag_gets_its_page_without_a_cluster(repository: Repository) -> None:
    tagged = repository.push(TAG)

    assert tagged.green, tagged.output[-3000:]
    assert tagged.verbs("publish") == PUBLISH
    assert tagged.jobs()[-1] == "announce"
    assert tagged.verbs("announce") == ["release-announce"]
    assert tagged.make("release-announce")[0].environment["GH_TOKEN"]


def test_cluster_gets_every_setting(repository: Repository) -> None:
    deployed = repository.push(variables=DEPLOY)

    assert deployed.green, deployed.output[-3000:]
    assert deployed.jobs()[-1] == "production"
    assert deployed.verbs("production") == ["release-verify", "release-deploy"]
    [call] = deployed.make("release-deploy")
    assert {name: value for name, value in call.environment.items() if name in DEPLOY} == DEPLOY


def test_owner_with_a_capital_letter_gets_a_valid_registry(tmp_path: Path) -> None:
    pushed = Repository(tmp_path, "Some-Owner").push()

    assert pushed.green, pushed.output[-3000:]
    given = {call.environment["RELEASE_REGISTRY"] for call in pushed.calls if "RELEASE_REGISTRY" in call.environment}
    assert given == {"ghcr.io/Some-Owner"}
    assert {release_registry({"RELEASE_REGISTRY": each}).prefix for each in given} == {"ghcr.io/some-owner"}


def test_jobs_need_the_jobs_that_may_stop_them() -> None:
    """After a failed job act starts no job of a later stage, also none that does not need the failed one."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]

    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "check": None, "ci": "check", "build": "ci", "images": "build", "e2e": "build", "publish": ["images", "e2e"],
        "announce": "publish", "deploy": "publish",
    }  # fmt: skip


def test_runs_wait_for_each_other_and_none_is_dropped() -> None:
    release = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())

    assert release["concurrency"] == {"group": "release", "cancel-in-progress": False, "queue": "max"}
    assert (ROOT / ".github/workflows/release.yaml").read_text().count(QUEUE) == 1
    for name in ("ci", "e2e"):  # a call from release.yaml never waits for another one
        text = (ROOT / f".github/workflows/{name}.yaml").read_text()
        assert f"group: {name}-${{{{ github.event_name == 'pull_request' && github.ref || github.run_id }}}}" in text


RELEASE, DEPLOYMENT, PREPARE = (
    ".github/workflows/release.yaml", ".github/workflows/deploy.yaml", ".github/actions/prepare/action.yaml",
)  # fmt: skip


@pytest.mark.long  # a run of act for each defect that a fork's first push once met
@pytest.mark.parametrize(
    ("path", "before", "after", "missed"),
    [
        (RELEASE, "    if: vars.DEPLOY_SERVER != ''\n", "", lambda fork: "production" not in fork.push().jobs()),
        (
            RELEASE,
            "    needs: publish\n    runs-on",
            "    needs: [publish, deploy]\n    runs-on",
            lambda fork: "announce" in fork.push(TAG).jobs(),
        ),
        (
            DEPLOYMENT,
            "      DEPLOY_NAMESPACE: ${{ vars.DEPLOY_NAMESPACE }}\n",
            "",
            lambda fork: "DEPLOY_NAMESPACE" in fork.push(variables=DEPLOY).make("release-deploy")[0].environment,
        ),
        (
            PREPARE,
            "${{ github.job }}-",
            "",
            lambda fork: len({call.inputs["key"] for call in fork.push().actions("actions/cache")}) == 3,
        ),
        (
            RELEASE,
            "      RELEASE_REGISTRY: ghcr.io/${{ github.repository_owner }}\n",
            "",
            lambda fork: all("RELEASE_REGISTRY" in call.environment for call in fork.push().make("release-build")),
        ),
    ],
    ids=["no cluster", "page after deploy", "lost setting", "shared cache", "no registry"],
)
def test_each_defect_is_seen(
    tmp_path: Path, path: str, before: str, after: str, missed: Callable[[Repository], bool]
) -> None:
    fork = Repository(tmp_path)
    fork.edit(path, before, after)

    assert not missed(fork)
