"""The containers of a model of another flavor: what each one gets, and what it does not get."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.model.pyfunc import check
from tests.charts.harness import kinds, only, rendered
from tools.charts import HelmError, Object
from training.__main__ import main

BASE: dict[str, Any] = {
    "model": {"uri": "models:/churn/7", "flavor": "pyfunc"},
    "mlflow": {"trackingUri": "http://mlflow.example:5000", "existingSecret": "mlflow-credentials"},
    "api": {"auth": {"existingSecret": "keys"}},
}


def release(environment: dict[str, Any] | None = None, **values: Any) -> list[Object]:
    model = BASE["model"] | {"environment": environment or {}}
    return rendered({**BASE, **values, "model": model | values.get("model", {})})


def pod(environment: dict[str, Any] | None = None, **values: Any) -> Object:
    found: Object = only(release(environment, **values), "Deployment")["spec"]["template"]["spec"]
    return found


def containers(spec: Object) -> dict[str, Object]:
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


def test_xgboost_models_have_one_container() -> None:
    spec = only(rendered(), "Deployment")["spec"]["template"]["spec"]

    assert list(containers(spec)) == ["model-service"]
    assert [volume["name"] for volume in spec["volumes"]] == ["cache", "tmp"]


def test_model_is_staged_installed_and_run_in_this_order() -> None:
    spec = pod(pod={"initContainers": [{"name": "mine", "image": "x"}]})

    assert [each["name"] for each in spec["initContainers"]] == ["mine", "stage", "environment"]
    assert [each["name"] for each in spec["containers"]] == ["model-service", "model"]


def test_containers_of_the_model_have_no_credentials() -> None:
    environment = {"index": {"url": "https://index.example/simple", "existingSecret": "index-credentials"}}
    found = containers(pod(environment))

    model, install = json.dumps(found["model"]), json.dumps(found["environment"])
    for secret in ("mlflow-credentials", "keys", "index-credentials", "MODEL_SERVICE", "MLFLOW_TRACKING"):
        assert secret not in model
    assert "mlflow-credentials" not in install
    assert "index-credentials" in install
    assert "--index=https://index.example/simple" in found["environment"]["args"]


def test_every_container_is_restricted() -> None:
    for name, each in containers(pod()).items():
        context = each["securityContext"]
        assert context["readOnlyRootFilesystem"], name
        assert not context["allowPrivilegeEscalation"], name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context.get("runAsUser") == (10001 if name in ("model", "environment") else None), name
        assert each["resources"]["limits"]["memory"], name


def test_model_cannot_change_its_files_its_packages_or_its_program() -> None:
    mounts = {each["mountPath"]: each for each in containers(pod())["model"]["volumeMounts"]}

    writable = [path for path, each in mounts.items() if not each.get("readOnly")]
    assert writable == ["/run/model-service", "/tmp"]  # noqa: S108 - a path in the container


def test_python_selects_the_image_and_is_checked() -> None:
    found = containers(pod({"python": "3.11"}))

    assert found["model"]["image"] == found["environment"]["image"] == "docker.io/library/python:3.11-slim"
    assert {"name": "MODEL_SERVICE_WORKER_PYTHON", "value": "3.11"} in found["stage"]["env"]


def test_own_image_with_the_packages_needs_no_installation() -> None:
    image = {"registry": "registry.example", "repository": "churn-python", "tag": "7"}
    spec = pod({"install": False, "image": image})
    found = containers(spec)

    assert list(found) == ["stage", "model-service", "model"]
    assert found["model"]["image"] == "registry.example/churn-python:7"
    assert found["model"]["command"][0] == "python3"
    assert "MODEL_SERVICE_WORKER_PYTHON" not in json.dumps(found["stage"])
    assert "environments" not in [volume["name"] for volume in spec["volumes"]]


def test_lock_is_installed_with_hashes() -> None:
    objects = release({"lock": "a==1 --hash=sha256:0\n"})
    spec = only(objects, "Deployment")["spec"]["template"]["spec"]

    assert only(objects, "ConfigMap")["data"] == {"requirements.txt": "a==1 --hash=sha256:0\n"}
    arguments = containers(spec)["environment"]["args"]
    assert "--require-hashes" in arguments
    assert "--requirements=/etc/model-service/lock/requirements.txt" in arguments
    assert "ConfigMap" not in kinds(release())


def test_claims_hold_environments_and_wheels() -> None:
    spec = pod({"existingClaim": "environments", "wheelhouse": {"existingClaim": "wheels"}})
    claims = {each["name"]: each.get("persistentVolumeClaim", {}).get("claimName") for each in spec["volumes"]}

    assert (claims["environments"], claims["wheelhouse"]) == ("environments", "wheels")
    assert "--wheelhouse=/opt/wheelhouse" in containers(spec)["environment"]["args"]


@pytest.mark.parametrize(
    ("environment", "opens"),
    [({}, True), ({"install": False}, False), ({"wheelhouse": {"existingClaim": "wheels"}}, False)],
)
def test_network_policy_opens_the_index_only_for_pods_that_install(environment: dict[str, Any], opens: bool) -> None:
    policy = only(release(environment, networkPolicy={"enabled": True}), "NetworkPolicy")
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])]

    assert (443 in ports) is opens


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"wheelhouse": {"existingClaim": "w"}, "index": {"url": "https://x"}},
            "model.environment.wheelhouse.existingClaim=w replaces the index, but model.environment.index.url=https://x",
        ),
        ({"install": False, "lock": "a"}, "model.environment.lock has no effect with model.environment.install=false"),
        ({"python": "3.8"}, "model"),
        ({"index": {"url": "https://me:secret@x"}}, "model"),
    ],
)
def test_values_that_cannot_work_are_refused(environment: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError, match=message):
        release(environment)


def test_values_of_an_image_serve_without_an_installation(tmp_path: Path) -> None:
    """The folder that `python -m training image` writes has values for this chart."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    (folder / "python_env.yaml").write_text("python: 3.11.7\n")
    (folder / "requirements.txt").write_text("mlflow==2.22.5\npandas==2.2.3\n")
    options = ["--image=registry.example/team/churn-python:7", f"--output={tmp_path}/image"]
    assert main(["image", folder.as_uri(), *options]) == 0
    values = yaml.safe_load((tmp_path / "image" / "values.yaml").read_text())

    found = containers(only(rendered(values), "Deployment")["spec"]["template"]["spec"])

    assert list(found) == ["stage", "model-service", "model"]
    assert found["model"]["image"] == "registry.example/team/churn-python:7"
    assert found["model"]["command"][0] == "python3"
    pinned = {"name": "MODEL_SERVICE_MODEL_SHA256", "value": check(folder).sha256}
    assert pinned in found["stage"]["env"]


BATCH: dict[str, Any] = {"batch": {"enabled": True, "data": "s3://lake/in.parquet", "output": "s3://lake/scores"}}


def scoring(environment: dict[str, Any] | None = None, **values: Any) -> Object:
    """Return the pod of the Job that scores."""
    objects = release(environment, **values)
    (job,) = [each for each in objects if each["kind"] == "Job" and "-score-" in each["metadata"]["name"]]
    found: Object = job["spec"]["template"]["spec"]
    return found


def test_batch_scores_with_the_same_containers_as_the_service() -> None:
    served, spec = pod(), scoring(**BATCH)

    assert [each["name"] for each in spec["initContainers"]] == ["stage", "environment", "model"]
    assert [each["name"] for each in spec["containers"]] == ["score"]
    assert spec["initContainers"][-1]["restartPolicy"] == "Always"  # a sidecar, which ends with the Job
    for name in ("environment", "model"):
        expected = containers(served)[name]
        assert {**containers(spec)[name], "restartPolicy": None} == {**expected, "restartPolicy": None}, name
    variables = {each["name"]: each.get("value") for each in containers(spec)["score"]["env"]}
    assert variables["TRAINING_MODEL_FLAVOR"] == "pyfunc"
    socket = containers(spec)["model"]["args"][1].removeprefix("--socket=")
    assert variables["TRAINING_WORKER_SOCKET"] == socket
    mounts = {each["name"]: each for each in containers(spec)["score"]["volumeMounts"]}
    assert mounts["cache"] == {"name": "cache", "mountPath": variables["TRAINING_CACHE_DIR"], "readOnly": True}
    assert {each["name"] for each in spec["volumes"]} >= {"cache", "worker", "model-tmp", "environments"}


def test_batch_of_another_flavor_shares_nothing_with_the_pods_of_the_service() -> None:
    values: dict[str, Any] = {**BATCH, "model": {"cache": {"existingClaim": "models"}, "sha256": "a" * 64}}
    other = {**values, "batch": {**BATCH["batch"], "model": "models:/churn/8"}}

    own, others = (
        {each["name"]: each.get("value") for each in containers(scoring(**each))["stage"]["env"]}
        for each in (values, other)
    )

    assert not {"MODEL_SERVICE_PEERS_HOST", "MODEL_SERVICE_REVISION"} & own.keys()
    assert (own["MODEL_SERVICE_MODEL_URI"], own["MODEL_SERVICE_MODEL_SHA256"]) == ("models:/churn/7", "a" * 64)
    assert (others["MODEL_SERVICE_MODEL_URI"], others["MODEL_SERVICE_MODEL_SHA256"]) == ("models:/churn/8", "")
    assert "models" not in [
        each.get("persistentVolumeClaim", {}).get("claimName") for each in scoring(**values)["volumes"]
    ]


@pytest.mark.parametrize("install", [True, False])
def test_network_policy_of_a_batch_opens_the_index_only_if_it_installs(install: bool) -> None:
    environment = {"install": install, "index": {"url": "https://index.example:8443/simple"}}
    objects = release(environment, networkPolicy={"enabled": True}, **BATCH)
    policies = {each["metadata"]["name"]: each for each in objects if each["kind"] == "NetworkPolicy"}
    (name,) = [each for each in policies if each.endswith("-score")]
    ports = [port["port"] for rule in policies[name]["spec"]["egress"] for port in rule.get("ports", [])]

    assert (8443 in ports) is install
    assert 443 in ports  # the data
