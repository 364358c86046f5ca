"""Training and batch scoring: what runs, once for each change or by a schedule, and what it is told."""

import json
from typing import Any

import pytest
import yaml

from tests.charts.harness import HelmError, Object, Values, kinds, only, pod_template, rendered
from tests.charts.strategies import merged
from tests.charts.test_schemas import JOBS, SCHEDULED, TRAIN_JOB

TRAINED: Values = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {"trackingUri": "http://mlflow:5000"},
    "training": {"enabled": True},
}
SCORED: Values = {"batch": {"enabled": True, "data": "s3://lake/in.parquet", "output": "s3://lake/scores/"}}


def training(more: Values) -> list[Object]:
    """Return the objects of a release that trains, with other values of `training`."""
    return rendered(merged(TRAINED, {"training": more}))


def job(objects: list[Object], part: str = "-train-") -> Object:
    """Return the Job whose name has a part."""
    (found,) = [item for item in objects if item["kind"] == "Job" and part in item["metadata"]["name"]]
    return found


def containers(spec: Object) -> dict[str, Object]:
    """Return all containers of a pod by name."""
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


def environment(container: Object) -> dict[str, Any]:
    """Return a container's variables."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_neither_is_there_by_default() -> None:
    assert {"Job", "CronJob", "ConfigMap", "TrainJob"} & set(kinds(rendered())) == set()


def test_training_verifies_by_the_service_and_promotes_last() -> None:
    spec = job(training({}))["spec"]["template"]["spec"]

    assert [each["name"] for each in spec["initContainers"]] == ["train", "verify"]
    assert [each["name"] for each in spec["containers"]] == ["promote"]
    found = containers(spec)
    assert found["verify"]["image"] == pod_template(rendered())["spec"]["containers"][0]["image"]
    assert found["train"]["image"] == found["promote"]["image"] != found["verify"]["image"]
    assert found["verify"]["command"][:3] == ["/opt/venv/bin/python", "-m", "app.verify"]
    assert "--candidate=/handover/candidate.json" in found["promote"]["command"]
    assert spec["restartPolicy"] == "Never"


def test_pods_are_as_safe_as_the_services() -> None:
    objects = rendered(JOBS)
    service = pod_template(objects)["spec"]

    for part in ("-train-", "-score-"):
        spec = job(objects, part)["spec"]["template"]["spec"]
        assert spec["securityContext"] == service["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        for container in containers(spec).values():
            assert container["securityContext"] == service["containers"][0]["securityContext"]
            assert container["resources"]["limits"]["memory"]
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_service_and_budget_do_not_count_the_pods() -> None:
    objects = rendered(JOBS)
    selector = only([o for o in objects if "-train" not in o["metadata"]["name"]], "Service")["spec"]["selector"]

    for part in ("-train-", "-score-"):
        labels = job(objects, part)["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == selector["app.kubernetes.io/instance"]
        assert labels["app.kubernetes.io/name"] != selector["app.kubernetes.io/name"]
        assert labels["sidecar"] == "none", "podLabels are on every pod"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"train": {"rounds": 10}}},
        {"rerun": "again"},
        {"image": {"tag": "2.0.0"}},
        {"resources": {"limits": {"memory": "4Gi"}}},
        {"workers": 2},
    ],
)
def test_another_job_is_another_name_and_the_same_is_the_same(change: Values) -> None:
    first, again, other = (job(training(values))["metadata"]["name"] for values in ({}, {}, change))

    assert first == again
    assert first != other


def test_what_the_job_does_not_see_leaves_its_name() -> None:
    changed = {"replicaCount": 5, "commonAnnotations": {"a": "b"}, "autoscaling": {"enabled": True}}

    assert job(rendered(merged(TRAINED, changed)))["metadata"]["name"] == job(training({}))["metadata"]["name"]


def test_settings_know_the_model_and_are_the_users_otherwise() -> None:
    def settings(values: Values) -> Any:
        return yaml.safe_load(only(rendered(merged(TRAINED, values)), "ConfigMap")["data"]["settings.yaml"])

    own = {"model_name": "other", "train": {"rounds": 7}, "promote": {"alias": "candidate", "margin": 0.5}}

    assert settings({}) == {"model_name": "churn", "promote": {"alias": "champion"}}
    assert settings({"training": {"settings": own}}) == own
    assert settings({"model": {"uri": "models:/churn/3"}})["promote"] == {"alias": "champion"}
    assert settings({"training": {"checkpoints": {"existingClaim": "a"}}})["train"] == {"checkpoints": "/checkpoints"}


def test_wrong_settings_and_a_refusal_are_not_tried_again_and_a_drain_does_not_count() -> None:
    rules = job(training({}))["spec"]["podFailurePolicy"]["rules"]

    assert rules[0]["action"] == "Ignore"
    assert rules[1] == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}}


def test_schedule_makes_a_cronjob_of_it_that_never_runs_twice_at_once() -> None:
    objects = rendered(SCHEDULED)

    assert "Job" not in kinds(objects)
    for found in (item for item in objects if item["kind"] == "CronJob"):
        assert found["spec"]["concurrencyPolicy"] == "Forbid"
        assert (found["spec"]["schedule"], found["spec"]["timeZone"]) == ("0 3 * * 1-5", "Europe/Lisbon")
        assert found["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] == 86400
        assert len(found["metadata"]["name"]) <= 52


def test_workers_find_the_first_by_name_and_only_it_promotes() -> None:
    objects = training({"workers": 3})
    spec = job(objects)["spec"]
    pod = spec["template"]["spec"]
    service = next(item for item in objects if item["kind"] == "Service" and item["spec"].get("clusterIP") == "None")
    train = environment(containers(pod)["train"])

    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert train["IMAGE_DIGEST"] == containers(pod)["train"]["image"], "recorded with each run"
    assert train["DMLC_NUM_WORKER"] == "3"
    assert train["DMLC_TRACKER_URI"] == f"$(JOB_NAME)-0.{pod['subdomain']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert int(train["DMLC_TRACKER_PORT"]) == service["spec"]["ports"][0]["port"]
    for name in ("verify", "promote"):
        assert containers(pod)[name]["command"][2].startswith('[ "$JOB_COMPLETION_INDEX" = 0 ] || exit 0')


def test_one_worker_is_no_group() -> None:
    objects = training({})

    assert "completionMode" not in job(objects)["spec"]
    assert "DMLC_NUM_WORKER" not in environment(containers(job(objects)["spec"]["template"]["spec"])["train"])
    assert only(objects, "Service")["spec"]["type"] == "ClusterIP"


def test_trainjob_stands_instead_of_the_job_and_does_the_same() -> None:
    objects = rendered(TRAIN_JOB)
    found = only(objects, "TrainJob")["spec"]
    names = {each["name"] for each in found["trainer"]["env"]}
    pod = found["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    spec = pod["template"]["spec"]

    assert not [item for item in objects if item["kind"] == "Job" and "-train-" in item["metadata"]["name"]]
    assert found["runtimeRef"]["name"] == "xgboost-distributed"
    assert found["trainer"]["numNodes"] == 3
    assert not [name for name in names if name.startswith("DMLC_")], "Trainer sets these and refuses ours"
    script = found["trainer"]["command"][2]
    order = [script.index(word) for word in ("training train", '"$DMLC_TASK_ID" = 0', "app.verify", "training promote")]
    assert order == sorted(order)
    assert spec["securityContext"] == pod_template(objects)["spec"]["securityContext"]
    mounted = {each["name"] for each in spec["containers"][0]["volumeMounts"]}
    assert mounted <= {each["name"] for each in spec["volumes"]}


def test_batch_writes_a_folder_of_its_own_for_each_job() -> None:
    objects = rendered(SCORED)
    spec = job(objects, "-score-")["spec"]["template"]["spec"]
    told = environment(containers(spec)["score"])

    assert told["TRAINING_OUTPUT"] == "s3://lake/scores/$(JOB_NAME)"
    assert list(told).index("JOB_NAME") < list(told).index("TRAINING_OUTPUT"), "else it is not filled in"
    assert told["TRAINING_MODEL_URI"] == "file:///models/example"
    assert json.loads(told["TRAINING_KEEP"]) == []


def test_batch_sees_the_volumes_of_a_mounted_model() -> None:
    volumes: dict[str, Any] = {
        "extraVolumes": [{"name": "model", "configMap": {"name": "m"}}],
        "extraVolumeMounts": [{"name": "model", "mountPath": "/models/example"}],
    }

    spec = job(rendered({**SCORED, **volumes}), "-score-")["spec"]["template"]["spec"]

    assert volumes["extraVolumes"][0] in spec["volumes"]
    assert volumes["extraVolumeMounts"][0] in containers(spec)["score"]["volumeMounts"]


def test_pinned_digest_is_of_the_served_model_alone() -> None:
    pinned: Values = {"model": {"uri": "file:///models/example", "sha256": "a" * 64}}
    other = merged(merged(SCORED, pinned), {"batch": {"model": "file:///models/other"}})

    own, not_ours = (
        environment(containers(job(rendered(values), "-score-")["spec"]["template"]["spec"])["score"])
        for values in (merged(SCORED, pinned), other)
    )

    assert own["TRAINING_MODEL_SHA256"] == "a" * 64
    assert not_ours["TRAINING_MODEL_SHA256"] == ""


def test_networkpolicy_keeps_everybody_out_and_lets_workers_talk() -> None:
    policies = {
        item["metadata"]["name"].rpartition("-")[2]: item["spec"]
        for item in rendered(JOBS)
        if item["kind"] == "NetworkPolicy"
    }

    assert policies["score"]["ingress"] == []
    assert policies["train"]["ingress"] == [{"from": [{"podSelector": policies["train"]["podSelector"]}]}]
    assert {"to": policies["train"]["ingress"][0]["from"]} in policies["train"]["egress"]
    for policy in (policies["train"], policies["score"]):
        ports = {port["port"] for rule in policy["egress"] for port in rule.get("ports", [])}
        assert ports == {53, 443}, "DNS, MLflow and what extraEgress says"


@pytest.mark.parametrize("release", ["a" * 53, "a" * 40])
def test_long_release_names_fit_and_stay_apart(release: str) -> None:
    names = [
        item["metadata"]["name"]
        for values in (JOBS, SCHEDULED)
        for each in (release, release[:-1] + "b")
        for item in rendered({**values, "autoscaling": {"enabled": True}}, release=each)
        if item["kind"] in ("Job", "CronJob")
    ]

    assert len(set(names)) == 8
    # A worker's host name ends in its number.
    assert all(len(f"{name}-999") <= 63 for name in names)


@pytest.mark.parametrize(("block", "part"), [("training", "-train-"), ("batch", "-score-")])
def test_extra_env_may_not_repeat_what_the_chart_sets(block: str, part: str) -> None:
    own = {"AWS_REGION", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}  # the user's, or theirs where there is no caBundle
    spec = job(rendered(JOBS), part)["spec"]["template"]["spec"]
    names = {name for each in containers(spec).values() for name in environment(each)} - own

    assert len(names) >= 5
    for name in names:
        with pytest.raises(HelmError, match=f"{block}.extraEnv sets {name}, which the chart sets itself"):
            rendered(merged(JOBS, {block: {"extraEnv": [{"name": name, "value": "x"}]}}))


NIGHTLY = "0 3 * * *"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"training": {"enabled": True}},
            "training.enabled=true logs to MLflow and registers there, but mlflow.tracking",
        ),
        (
            {"training": {"enabled": True}, "mlflow": {"trackingUri": "http://mlflow:5000"}},
            "does not know which model to register: model.uri=file:///models/example names none, so set",
        ),
        (
            merged(TRAIN_JOB, {"training": {"schedule": NIGHTLY}}),
            "training.schedule=0 3 * * * cannot start a TrainJob: set training.trainJob.enabled=false",
        ),
        (
            merged(TRAIN_JOB, {"training": {"existingSecrets": ["s3"]}}),
            "training.existingSecrets cannot be given to a TrainJob whole: name each key",
        ),
        (merged(TRAINED, {"training": {"ttlSecondsAfterFinished": 60}}), "would remove a Job that the next upgrade"),
        (
            merged(TRAINED, {"training": {"schedule": "daily"}}),
            'training.schedule="daily" is no cron expression:',
        ),
        ({"batch": {"enabled": True, "output": "/x"}}, "batch.data is empty: set it to the data set to score"),
        ({"batch": {"enabled": True, "data": "/x"}}, "batch.output is empty: set it to the folder for the predictions"),
        (
            merged(SCORED, {"batch": {"model": "models:/churn/3"}}),
            "batch.model=models:/churn/3 is looked up in MLflow, but mlflow.trackingUri is empty",
        ),
        (merged(SCORED, {"batch": {"schedule": "0 3 * *"}}), 'batch.schedule="0 3 * *" is no cron expression'),
    ],
)
def test_impossible_values_fail_with_a_sentence(values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        rendered(values)

    assert sentence in str(refused.value)


def test_macros_and_names_are_cron_expressions() -> None:
    for schedule in ("@daily", "*/5 0-6 1,15 JAN MON-FRI"):
        assert only(training({"schedule": schedule}), "CronJob")["spec"]["schedule"] == schedule
