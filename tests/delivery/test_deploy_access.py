"""Tests of the manifests that give the deploy job access to a cluster."""

import re
from itertools import product

import pytest
import yaml

from tools.charts import MODEL_SERVICE
from tools.cluster.cache import ROOT

FOLDER = ROOT / "docs" / "how-to" / "deploy-access"
AUTHENTICATION = yaml.safe_load((FOLDER / "authentication.yaml").read_text())["jwt"][0]
ROLE, BINDING = yaml.safe_load_all((FOLDER / "role.yaml").read_text())
PLURALS = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}
WRITES = {"get", "list", "watch", "create", "update", "patch", "delete"}
KINDS = sorted(
    {
        kind
        for path in (MODEL_SERVICE / "templates").rglob("*.yaml")
        for kind in re.findall(r"^kind: (\w+)", path.read_text(), re.M)
    }
)


def verbs(resource: str) -> set[str]:
    """Return what the Role permits for a resource."""
    return {verb for rule in ROLE["rules"] if resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("kind", KINDS)
def test_role_permits_what_helm_does_to_each_kind_of_the_chart(kind: str) -> None:
    needed = WRITES - {"update", "patch"} if kind == "Pod" else WRITES

    assert verbs(PLURALS.get(kind, f"{kind.lower()}s")) >= needed


def test_role_permits_helms_own_secrets_and_the_prediction() -> None:
    assert verbs("secrets") >= WRITES
    assert "create" in verbs("pods/exec")
    assert not verbs("*") | verbs("roles") | verbs("clusterroles")
    assert ROLE["kind"] == "Role"


def test_user_of_the_binding_is_the_one_that_the_api_server_makes() -> None:
    [subject] = BINDING["subjects"]
    rules = [rule["expression"] for rule in AUTHENTICATION["claimValidationRules"]]
    [repository] = re.findall(r'claims\.repository_id == "(\d+)"', rules[0])
    [environment] = re.findall(r'claims\.environment == "(\w+)"', rules[1])

    made = AUTHENTICATION["claimMappings"]["username"]["expression"]
    assert made == '"github:" + claims.repository_id + ":" + claims.environment'
    assert subject["name"] == f"github:{repository}:{environment}"
    assert not [rule for rule in rules if "claims.sub" in rule]  # its format depends on the age of the repository


@pytest.mark.parametrize(
    ("workflow", "reference", "accepted"),
    [
        *((workflow, ref, workflow == "deploy") for workflow, ref in product(
            ("deploy", "release"), ("refs/heads/main", "refs/tags/v0.1.0"))),
        ("deploy", "refs/heads/main-2", False),
        ("deploy", "refs/heads/change", False),
        ("deploy", "refs/pull/1/merge", False),
        ("deploy", "refs/tags/nightly", False),
    ],
)  # fmt: skip
def test_only_the_deploy_workflow_on_main_or_a_release_is_accepted(
    workflow: str, reference: str, accepted: bool
) -> None:
    [pattern] = re.findall(r'matches\("(.+)"\)', AUTHENTICATION["claimValidationRules"][2]["expression"])
    claim = f"example/model-service/.github/workflows/{workflow}.yaml@{reference}"

    assert bool(re.search(pattern, claim)) is accepted


def test_page_and_workflow_know_the_same_settings() -> None:
    page = (ROOT / "docs/how-to/release.md").read_text()
    job = yaml.safe_load((ROOT / ".github/workflows/deploy.yaml").read_text())["jobs"]["production"]
    reach = {name for name, value in job["env"].items() if value == f"${{{{ vars.{name} }}}}"}

    assert job["environment"] == "production"
    assert reach == set(re.findall(r"^\| `(DEPLOY_\w+)` \|", page, re.M))
