"""Placement of the pods of jobs, of the garbage collection and of `helm test`."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.charts.harness import only, rendered
from tests.charts.strategies import merged
from tests.charts.test_schemas import JOBS, TRAIN_JOB
from tools.charts import MLFLOW, Object, Values, render

SERVER: Values = {
    "labels": {"team": "risk"},
    "annotations": {"service": "only"},
    "nodeSelector": {"pool": "serving"},
    "tolerations": [{"key": "serving", "operator": "Exists"}],
    "priorityClassName": "serving",
    "affinity": {"podAntiAffinity": {}},
}
OWN: Values = {
    "labels": {"sidecar.istio.io/inject": "false"},
    "annotations": {"note": "own"},
    "nodeSelector": {"pool": "own"},
    "tolerations": [{"key": "own", "operator": "Exists", "tolerationSeconds": 300}],
    "priorityClassName": "own",
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
}
SCHEDULING = ("nodeSelector", "tolerations", "priorityClassName", "affinity")


def job(part: str) -> Callable[[Values, Values], Object]:
    """Return a function that renders the pod of a job of the service's chart."""

    def pod(server: Values, own: Values) -> Object:
        values = {**JOBS, "jobs": {"pod": own}, "pod": server}
        (found,) = [each for each in rendered(values) if each["kind"] == "Job" and part in each["metadata"]["name"]]
        template: Object = found["spec"]["template"]
        return template

    return pod


def helm_test(server: Values, own: Values) -> Object:
    return only(rendered({"pod": server, "tests": {"pod": own}}), "Pod")


def helm_test_of_mlflow(server: Values, own: Values) -> Object:
    return only(render(MLFLOW, {"pod": server, "tests": {"pod": own}}), "Pod")


def collection(server: Values, own: Values) -> Object:
    values = {"pod": server, "garbageCollection": {"enabled": True, "pod": own}}
    found: Object = only(render(MLFLOW, values), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    return found


PODS = {
    "training": job("-train-"),
    "batch": job("-score-"),
    "helm test": helm_test,
    "helm test of MLflow": helm_test_of_mlflow,
    "garbage collection": collection,
}


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_own_scheduling_replaces_that_of_the_server(pod: Callable[[Values, Values], Object]) -> None:
    found = pod(SERVER, OWN)

    spec = {key: found["spec"][key] for key in SCHEDULING}
    spec["affinity"] = {"nodeAffinity": spec["affinity"]["nodeAffinity"]}  # the collection follows the volume, too
    assert spec == {key: OWN[key] for key in SCHEDULING}
    assert found["metadata"]["labels"].items() >= OWN["labels"].items()
    assert found["metadata"]["annotations"].items() >= OWN["annotations"].items()
    assert "service" not in found["metadata"]["annotations"]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_scheduling_defaults_to_that_of_the_server_without_its_affinity(
    pod: Callable[[Values, Values], Object],
) -> None:
    found = pod(SERVER, {})

    for key in ("nodeSelector", "tolerations", "priorityClassName"):
        assert found["spec"][key] == SERVER[key]
    assert "podAntiAffinity" not in found["spec"].get("affinity", {})


def test_collection_stays_on_the_node_of_the_volume() -> None:
    assert "podAffinity" in collection({}, OWN)["spec"]["affinity"]
    database: Any = {"backendStoreUriFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    values = {"mlflow": database, "garbageCollection": {"enabled": True}}
    spec = only(render(MLFLOW, values), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert "affinity" not in spec


def test_trainjob_has_labels_annotations_and_scheduling() -> None:
    own = {key: value for key, value in OWN.items() if key != "priorityClassName"}
    found = only(rendered(merged(TRAIN_JOB, {"training": {"pod": own}})), "TrainJob")["spec"]["runtimePatches"][0]
    (replicated,) = found["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]

    assert {key: pod["spec"][key] for key in SCHEDULING if key in own} == {
        key: own[key] for key in SCHEDULING if key in own
    }
    assert pod["metadata"]["annotations"] == own["annotations"]
    assert pod["metadata"]["labels"].items() >= own["labels"].items()


@pytest.mark.parametrize("chart", ["model-service", "mlflow"])
def test_helm_test_has_the_resources_that_a_quota_requires(chart: str) -> None:
    def resources(values: Values) -> Any:
        pod = only(render(MLFLOW, values) if chart == "mlflow" else rendered(values), "Pod")
        return pod["spec"]["containers"][0].get("resources")

    assert resources({"tests": {"resources": {"limits": {"cpu": "1"}}}})["limits"]["cpu"] == "1"
    assert resources({})["requests"]["cpu"] == "10m"
    assert resources({"tests": {"resources": None}}) is None
