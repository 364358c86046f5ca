"""Jobs of the chart: training and batch scoring, as Jobs, CronJobs and a TrainJob."""

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.charts.harness import kinds, only, pod_template, rendered
from tests.charts.schemas import problems
from tests.charts.strategies import DEFAULTS, keys, merged, spoiled
from tests.charts.test_schemas import JOBS, SCHEDULED, TRAIN_JOB
from tools.charts import HelmError, Object, Values

TRAINED: Values = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {"trackingUri": "http://mlflow:5000"},
    "training": {"enabled": True},
}
# One override of each key of `jobs`, and text that appears in the CronJob because of it.
OVERRIDES: dict[str, tuple[Any, str]] = {
    "image": ({"tag": "2.0.0"}, "model-service-training:2.0.0"),
    "pod": ({"nodeSelector": {"pool": "training"}}, "'nodeSelector': {'pool': 'training'}"),
    "serviceAccountName": ("reader", "reader"),
    "extraEnv": ([{"name": "AWS_REGION", "value": "eu-west-1"}], "eu-west-1"),
    "extraEnvFrom": ([{"secretRef": {"name": "lake-login"}}], "lake-login"),
    "extraVolumes": ([{"name": "data", "emptyDir": {"medium": "Memory"}}], "Memory"),
    "extraVolumeMounts": ([{"name": "tmp", "mountPath": "/somewhere"}], "/somewhere"),
    "resources": ({"limits": {"memory": "7Gi"}}, "7Gi"),
    "activeDeadlineSeconds": (1111, "1111"),
    "timeZone": ("Europe/Lisbon", "Europe/Lisbon"),
    "startingDeadlineSeconds": (2222, "2222"),
    "successfulJobsHistoryLimit": (0, "'successfulJobsHistoryLimit': 0"),
    "failedJobsHistoryLimit": (0, "'failedJobsHistoryLimit': 0"),
    "ttlSecondsAfterFinished": (3333, "3333"),
}
SCORED: Values = {"batch": {"enabled": True, "data": "s3://lake/in.parquet", "output": "s3://lake/scores/"}}


def training(more: Values) -> list[Object]:
    """Return the objects of a release that trains, with additional values of `training`."""
    return rendered(merged(TRAINED, {"training": more}))


def job(objects: list[Object], part: str = "-train-") -> Object:
    """Return the only Job whose name contains `part`."""
    (found,) = [item for item in objects if item["kind"] == "Job" and part in item["metadata"]["name"]]
    return found


def containers(spec: Object) -> dict[str, Object]:
    """Return all containers of a pod by name."""
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


def environment(container: Object) -> dict[str, Any]:
    """Return the environment variables of a container by name."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_no_job_is_created_by_default() -> None:
    assert {"Job", "CronJob", "ConfigMap", "TrainJob"} & set(kinds(rendered())) == set()


def test_candidate_is_verified_in_the_service_image_and_promoted_last() -> None:
    spec = job(training({}))["spec"]["template"]["spec"]

    assert [each["name"] for each in spec["initContainers"]] == ["train", "verify"]
    assert [each["name"] for each in spec["containers"]] == ["promote"]
    found = containers(spec)
    assert found["verify"]["image"] == pod_template(rendered())["spec"]["containers"][0]["image"]
    assert found["train"]["image"] == found["promote"]["image"] != found["verify"]["image"]
    assert "-m app.tools.verify --candidate=/handover/candidate.json" in found["verify"]["command"][2]
    assert "-m training promote --candidate=/handover/candidate.json" in found["promote"]["command"][2]
    assert spec["restartPolicy"] == "Never"


def test_pods_have_the_security_contexts_of_the_service() -> None:
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


def test_service_selector_does_not_match_the_pods() -> None:
    objects = rendered(JOBS)
    services = [o for o in objects if o["kind"] == "Service" and "-train" not in o["metadata"]["name"]]
    selector = services[0]["spec"]["selector"]
    assert all(each["spec"]["selector"] == selector for each in services)

    for part in ("-train-", "-score-"):
        labels = job(objects, part)["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == selector["app.kubernetes.io/instance"]
        assert labels["app.kubernetes.io/name"] != selector["app.kubernetes.io/name"]
        assert labels["sidecar"] == "none", "pod.labels are on every pod"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"train": {"rounds": 10}}},
        {"rerun": "again"},
        {"image": {"tag": "2.0.0"}},
        {"verify": {"useTrainingImage": True}},
        {"resources": {"limits": {"memory": "4Gi"}}},
        {"workers": 2},
    ],
)
def test_name_changes_with_the_spec_or_settings_only(change: Values) -> None:
    first, again, other = (job(training(values))["metadata"]["name"] for values in ({}, {}, change))

    assert first == again
    assert first != other


def test_unrelated_values_do_not_change_the_name() -> None:
    changed = {"replicaCount": 5, "commonAnnotations": {"a": "b"}, "autoscaling": {"enabled": True}}

    assert job(rendered(merged(TRAINED, changed)))["metadata"]["name"] == job(training({}))["metadata"]["name"]


def test_settings_default_to_the_served_model() -> None:
    def settings(values: Values) -> Any:
        return yaml.safe_load(only(rendered(merged(TRAINED, values)), "ConfigMap")["data"]["settings.yaml"])

    own = {"model_name": "other", "train": {"rounds": 7}, "promote": {"alias": "candidate", "margin": 0.5}}

    assert settings({}) == {"model_name": "churn", "promote": {"alias": "champion"}}
    assert settings({"training": {"settings": own}}) == own
    assert settings({"model": {"uri": "models:/churn/3"}})["promote"] == {"alias": "champion"}
    assert settings({"training": {"checkpoints": {"existingClaim": "a"}}})["train"] == {"checkpoints": "/checkpoints"}


def test_invalid_settings_are_not_retried_and_drains_do_not_count() -> None:
    rules = job(training({}))["spec"]["podFailurePolicy"]["rules"]

    assert rules[0]["action"] == "Ignore"
    assert rules[1] == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}


def test_refusal_completes_the_job_and_is_the_termination_message() -> None:
    spec = job(training({}))["spec"]["template"]["spec"]

    arguments = containers(spec)["promote"]["command"][2].split()

    assert {"--accept-refusal", "--message=/dev/termination-log", "--once"} < set(arguments)


def key(objects: list[Object]) -> Any:
    """Return the key of the training, with which MLflow knows whether it has been done."""
    return environment(containers(job(objects)["spec"]["template"]["spec"])["train"])["TRAINING_KEY"]


@pytest.mark.parametrize(
    "change",
    [
        {"pod": {"labels": {"team": "risk"}, "nodeSelector": {"disk": "ssd"}}},
        {"commonLabels": {"team": "risk"}},
        {"resources": {"requests": {"cpu": 2}}},
        {"image": {"tag": "9.9.9"}},
        {"training": {"resources": {"limits": {"memory": "4Gi"}}, "backoffLimit": 3}},
        {"training": {"checkpoints": {"existingClaim": "checkpoints"}}},
        {"jobs": {"serviceAccountName": "reader", "extraEnvFrom": [{"secretRef": {"name": "s3"}}]}},
        {"model": {"uri": "models:/churn/3", "sha256": "a" * 64}},
    ],
)
def test_change_that_training_does_not_depend_on_keeps_its_key(change: Values) -> None:
    assert key(rendered(merged(TRAINED, change))) == key(training({}))


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"settings": {"train": {"data": "s3://lake/churn.parquet"}}}},
        {"training": {"settings": {"promote": {"margin": 0.5}}}},
        {"training": {"rerun": "again"}},
        {"training": {"workers": 2}},
        {"training": {"verify": {"maxP99Milliseconds": 7}}},
        {"training": {"extraEnv": [{"name": "TRAINING_ROUNDS", "value": "7"}]}},
        {"jobs": {"image": {"tag": "2.0.0"}}},
        {"jobs": {"extraVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "other"}}]}},
        {"model": {"uri": "models:/other@champion"}},
        {"mlflow": {"trackingUri": "http://other:5000"}},
        {"namespaceOverride": "other"},
    ],
)
def test_change_that_training_depends_on_changes_its_key(change: Values) -> None:
    assert key(rendered(merged(TRAINED, change))) != key(training({}))


def test_only_one_time_jobs_have_a_key() -> None:
    (cronjob,) = [item for item in training({"schedule": "@daily"}) if item["kind"] == "CronJob"]
    trainjob = only(rendered(TRAIN_JOB), "TrainJob")

    spec = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert "TRAINING_KEY" not in environment(containers(spec)["train"])
    assert "TRAINING_KEY" in environment(trainjob["spec"]["trainer"])
    assert key(training({})) != key(rendered(TRAINED, release="another"))


def test_schedule_creates_cronjobs_that_never_overlap() -> None:
    objects = rendered(SCHEDULED)

    assert "Job" not in kinds(objects)
    for found in (item for item in objects if item["kind"] == "CronJob"):
        assert found["spec"]["concurrencyPolicy"] == "Forbid"
        assert (found["spec"]["schedule"], found["spec"]["timeZone"]) == ("0 3 * * 1-5", "Europe/Lisbon")
        assert found["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] == 86400
        assert len(found["metadata"]["name"]) <= 52


def test_workers_find_the_first_worker_and_only_it_promotes() -> None:
    objects = training({"workers": 3})
    spec = job(objects)["spec"]
    pod = spec["template"]["spec"]
    service = next(item for item in objects if item["kind"] == "Service" and "-train" in item["metadata"]["name"])
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
        assert containers(pod)[name]["command"][2].startswith('[ "${JOB_COMPLETION_INDEX:-0}" = 0 ] || exit 0\n')


def test_one_worker_needs_no_group() -> None:
    objects = training({})

    assert "completionMode" not in job(objects)["spec"]
    assert "DMLC_NUM_WORKER" not in environment(containers(job(objects)["spec"]["template"]["spec"])["train"])
    assert not [each for each in objects if each["kind"] == "Service" and "-train" in each["metadata"]["name"]]


def test_trainjob_replaces_the_job_and_runs_the_same_commands() -> None:
    objects = rendered(TRAIN_JOB)
    found = only(objects, "TrainJob")["spec"]
    names = {each["name"] for each in found["trainer"]["env"]}
    pod = found["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    spec = pod["template"]["spec"]
    one_worker = merged(TRAIN_JOB, {"training": {"trainJob": {"enabled": False}, "workers": 1}})
    train, verify, promote = containers(job(rendered(one_worker))["spec"]["template"]["spec"]).values()

    assert not [item for item in objects if item["kind"] == "Job" and "-train-" in item["metadata"]["name"]]
    assert found["runtimeRef"]["name"] == "xgboost-distributed"
    assert found["trainer"]["numNodes"] == 3
    assert found["trainer"]["image"] == train["image"]
    assert found["trainer"]["resourcesPerNode"] == train["resources"]
    assert not [name for name in names if name.startswith("DMLC_")], "Trainer sets these and refuses ours"
    assert names >= set(environment(train)) | {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    commands = [each["command"][2].splitlines()[1].removeprefix("exec ") for each in (verify, promote)]
    guard = '[ "$DMLC_TASK_ID" = 0 ] || exit 0'
    assert found["trainer"]["command"][2].splitlines() == ["set -e", " ".join(train["command"]), guard, *commands]
    assert spec["securityContext"] == pod_template(objects)["spec"]["securityContext"]
    mounted = {each["name"] for each in spec["containers"][0]["volumeMounts"]}
    assert mounted <= {each["name"] for each in spec["volumes"]}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pod": {"priorityClassName": "high"}}, "pod.priorityClassName is set, but a TrainJob cannot set it"),
        ({"pod": {"runtimeClassName": "gvisor"}}, "pod.runtimeClassName is set, but a TrainJob cannot set it"),
        ({"pod": {"hostAliases": [{"ip": "10.0.0.9"}]}}, "pod.hostAliases is set, but a TrainJob cannot set it"),
        ({"pod": {"dnsConfig": {"searches": ["a"]}}}, "pod.dnsConfig is set, but a TrainJob cannot set it"),
        (
            {"jobs": {"pod": {"priorityClassName": "high"}}},
            "training.pod.priorityClassName is set, but a TrainJob cannot set it",
        ),
        (
            {"training": {"verify": {"useTrainingImage": False}}},
            "cannot be verified in the service's image: set training.verify.useTrainingImage=true",
        ),
        ({"training": {"schedule": "0 3 * * *"}}, "training.schedule=0 3 * * * has no effect on a TrainJob"),
        (
            {"training": {"extraEnvFrom": [{"secretRef": {"name": "s3"}}]}},
            "training.extraEnvFrom is set, but a TrainJob has no envFrom: set training.extraEnvFrom=[]",
        ),
        (
            {"jobs": {"extraEnvFrom": [{"secretRef": {"name": "s3"}}]}, "training": {"extraEnvFrom": None}},
            "jobs.extraEnvFrom is set, but a TrainJob has no envFrom: set training.extraEnvFrom=[]",
        ),
    ],
)
def test_trainjob_refuses_what_it_cannot_carry(values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        rendered(merged(TRAIN_JOB, values))

    assert sentence in str(refused.value)
    assert "training.trainJob.enabled=false" in str(refused.value), "the remedy that always works"


def test_candidate_may_be_verified_in_the_training_image() -> None:
    spec = job(training({"verify": {"useTrainingImage": True}}))["spec"]["template"]["spec"]
    train, verify, _ = containers(spec).values()

    assert (verify["image"], verify["resources"]) == (train["image"], train["resources"])


def test_each_default_of_jobs_has_an_override() -> None:
    assert set(OVERRIDES) == set(DEFAULTS["jobs"])


@pytest.mark.parametrize("key", OVERRIDES)
@pytest.mark.parametrize(("block", "part"), [("training", "-train"), ("batch", "-score")])
def test_override_wins_over_the_default_of_jobs(block: str, part: str, key: str) -> None:
    override, shown = OVERRIDES[key]
    base = merged(SCHEDULED, {name: dict.fromkeys(OVERRIDES, None) for name in ("training", "batch")})

    def cronjobs(values: Values) -> dict[bool, str]:
        """Return the text of both CronJobs by whether it is the block's."""
        found = [item for item in rendered(merged(base, values)) if item["kind"] == "CronJob"]
        return {item["metadata"]["name"].endswith(part): str(item["spec"]) for item in found}

    default, overridden = cronjobs({}), cronjobs({block: {key: override}})

    assert shown in cronjobs({"jobs": {key: override}})[True], "the default itself works"
    assert shown not in default[True]
    assert shown in overridden[True]
    assert overridden[False] == default[False], "the other job keeps the default"


@pytest.mark.parametrize("key", OVERRIDES)
def test_null_override_keeps_the_default(key: str) -> None:
    default = merged(SCHEDULED, {"jobs": {key: OVERRIDES[key][0]}, "training": {key: None}})
    null = deepcopy(default)
    null["training"][key] = None

    assert rendered(null) == rendered(default)


def test_override_merges_maps_and_replaces_lists() -> None:
    extra = {"extraEnv": [{"name": "A", "value": "a"}], "serviceAccountName": "reader"}
    override = {"extraEnv": [], "serviceAccountName": "", "resources": {"requests": {"cpu": 4}}}
    spec = job(rendered(merged(TRAINED, {"jobs": extra, "training": override})))["spec"]["template"]["spec"]
    train = containers(spec)["train"]

    assert train["resources"] == {"requests": {"cpu": 4, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert "A" not in environment(train)
    assert spec["serviceAccountName"] == "demo-model-service", "the ServiceAccount of the service"


# Nothing else gives these a meaning.
REQUIRED = {("jobs", "image"), ("jobs", "image", "repository"), ("training", "trainJob", "runtime")}
# validate.yaml refuses these in the samples, with a sentence.
REFUSED = {
    ("batch", "data"),
    ("batch", "output"),
    ("batch", "schedule"),
    ("training", "schedule"),
    ("training", "verify"),
    ("training", "verify", "useTrainingImage"),
}


@pytest.mark.parametrize("base", [SCHEDULED, TRAIN_JOB], ids=["scheduled", "trainjob"])
def test_null_deletes_every_optional_key(base: Values) -> None:
    overrides = {(block, key) for block in ("training", "batch") for key in DEFAULTS["jobs"]}
    paths = {path for path in keys() if path[0] in ("jobs", "training", "batch") and path[:2] not in overrides}
    cases = [spoiled(base, path, None) for path in paths - REQUIRED - REFUSED if len(path) > 1]

    assert len(cases) > 40
    with ThreadPoolExecutor(max_workers=2) as pool:
        assert problems([item for objects in pool.map(rendered, cases) for item in objects]) == []


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_null_of_a_required_key_is_refused_by_name(path: tuple[str, ...]) -> None:
    with pytest.raises(HelmError, match=f"missing property '{path[-1]}'"):
        rendered(spoiled({}, path, None))


@pytest.mark.parametrize(
    ("block", "key", "gone"),
    [
        ("jobs", "activeDeadlineSeconds", "activeDeadlineSeconds"),
        ("jobs", "startingDeadlineSeconds", "startingDeadlineSeconds"),
        ("jobs", "successfulJobsHistoryLimit", "successfulJobsHistoryLimit"),
        ("jobs", "failedJobsHistoryLimit", "failedJobsHistoryLimit"),
        ("jobs", "resources", "2Gi"),
        ("training", "backoffLimit", "backoffLimit"),
        ("training", "verify", "--max-p99-ms"),
        ("training", "workers", "completionMode"),
        ("training", "checkpoints", "/checkpoints"),
        ("batch", "backoffLimit", "backoffLimit"),
        ("batch", "onError", "TRAINING_ON_ERROR"),
        ("batch", "partRows", "TRAINING_PART_ROWS"),
    ],
)
def test_null_removes_what_the_default_sets(block: str, key: str, gone: str) -> None:
    part = "-score" if block == "batch" else "-train"

    def cronjob(values: Values) -> str:
        (found,) = [
            str(item)
            for item in rendered(values)
            if item["kind"] == "CronJob" and item["metadata"]["name"].endswith(part)
        ]
        return found

    assert gone in cronjob(SCHEDULED)
    assert gone not in cronjob(spoiled(SCHEDULED, (block, key), None))


def test_each_batch_job_writes_to_its_own_folder() -> None:
    objects = rendered(SCORED)
    spec = job(objects, "-score-")["spec"]["template"]["spec"]
    variables = environment(containers(spec)["score"])

    assert variables["TRAINING_OUTPUT"] == "s3://lake/scores/$(JOB_NAME)"
    assert list(variables).index("JOB_NAME") < list(variables).index("TRAINING_OUTPUT"), (
        "Kubernetes expands earlier variables only"
    )
    assert variables["TRAINING_MODEL_URI"] == "file:///models/example"
    assert json.loads(variables["TRAINING_KEEP"]) == []


def test_batch_mounts_the_volumes_of_the_service() -> None:
    volumes: dict[str, Any] = {
        "extraVolumes": [{"name": "model", "configMap": {"name": "m"}}],
        "extraVolumeMounts": [{"name": "model", "mountPath": "/models/example"}],
    }

    spec = job(rendered({**SCORED, **volumes}), "-score-")["spec"]["template"]["spec"]

    assert volumes["extraVolumes"][0] in spec["volumes"]
    assert volumes["extraVolumeMounts"][0] in containers(spec)["score"]["volumeMounts"]


def test_pinned_digest_applies_to_the_served_model_only() -> None:
    pinned: Values = {"model": {"uri": "file:///models/example", "sha256": "a" * 64}}
    other = merged(merged(SCORED, pinned), {"batch": {"model": "file:///models/other"}})

    own, not_ours = (
        environment(containers(job(rendered(values), "-score-")["spec"]["template"]["spec"])["score"])
        for values in (merged(SCORED, pinned), other)
    )

    assert own["TRAINING_MODEL_SHA256"] == "a" * 64
    assert not_ours["TRAINING_MODEL_SHA256"] == ""


def test_categories_apply_to_the_served_model_only() -> None:
    categories = {"colour": ["blue", "red"], "floor": [1, 2]}
    served: Values = {
        "model": {"uri": "file:///models/example", "categories": categories, "unknownCategory": "missing"}
    }
    other = merged(merged(SCORED, served), {"batch": {"model": "file:///models/other"}})

    own, not_ours = (
        environment(containers(job(rendered(values), "-score-")["spec"]["template"]["spec"])["score"])
        for values in (merged(SCORED, served), other)
    )

    assert json.loads(own["TRAINING_MODEL_CATEGORIES"]) == categories
    assert own["TRAINING_UNKNOWN_CATEGORY"] == "missing"
    assert not {"TRAINING_MODEL_CATEGORIES", "TRAINING_UNKNOWN_CATEGORY"} & not_ours.keys()


def test_networkpolicy_admits_only_workers() -> None:
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
        assert ports == {53, 443}, "DNS, MLflow and extraEgress"


@pytest.mark.parametrize("release", ["a" * 53, "a" * 40])
def test_long_release_names_fit_and_stay_distinct(release: str) -> None:
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
    own = {"AWS_REGION", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}  # users may set these
    spec = job(rendered(JOBS), part)["spec"]["template"]["spec"]
    names = {name for each in containers(spec).values() for name in environment(each)} - own

    assert len(names) >= 5
    for name in names:
        with pytest.raises(HelmError, match=f"{block}.extraEnv sets {name}, which the chart sets in {block}:"):
            rendered(merged(JOBS, {block: {"extraEnv": [{"name": name, "value": "x"}]}}))


def test_extra_env_of_the_defaults_may_not_repeat_what_the_chart_sets() -> None:
    with pytest.raises(HelmError, match=r"jobs\.extraEnv sets TRAINING_DATA, which the chart sets in batch:"):
        rendered(merged(SCORED, {"jobs": {"extraEnv": [{"name": "TRAINING_DATA", "value": "x"}]}}))


def test_csv_format_of_the_batch_is_passed_on_and_not_set_twice() -> None:
    csv = merged(SCORED, {"batch": {"csv": {"delimiter": ";", "thousands": "'", "encoding": "latin-1"}}})
    variable = {"jobs": {"extraEnv": [{"name": "TRAINING_CSV_DELIMITER", "value": "tab"}]}}

    found = environment(containers(job(rendered(csv), "-score-")["spec"]["template"]["spec"])["score"])

    formats = {name: value for name, value in found.items() if name.startswith("TRAINING_CSV_")}
    assert formats == {
        "TRAINING_CSV_DELIMITER": ";",
        "TRAINING_CSV_THOUSANDS": "'",
        "TRAINING_CSV_ENCODING": "latin-1",
    }
    assert rendered(merged(SCORED, variable))
    with pytest.raises(HelmError, match=r"jobs\.extraEnv sets TRAINING_CSV_DELIMITER, which the chart sets in batch:"):
        rendered(merged(csv, variable))
    with pytest.raises(HelmError, match="batch/csv/delimiter"):
        rendered(merged(SCORED, {"batch": {"csv": {"delimiter": "::"}}}))


NIGHTLY = "0 3 * * *"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"training": {"enabled": True}},
            "training.enabled=true logs runs to MLflow and registers models there, but mlflow.tracking",
        ),
        (
            {"training": {"enabled": True}, "mlflow": {"trackingUri": "http://mlflow:5000"}},
            "model.uri=file:///models/example does not contain one: set training.settings.model_name",
        ),
        (
            merged(TRAINED, {"training": {"ttlSecondsAfterFinished": 60}}),
            "training.ttlSecondsAfterFinished=60 would remove a Job that the next upgrade",
        ),
        (
            merged(SCORED, {"jobs": {"ttlSecondsAfterFinished": 60}}),
            "jobs.ttlSecondsAfterFinished=60 would remove a Job that the next upgrade",
        ),
        (
            merged(TRAINED, {"training": {"schedule": "daily"}}),
            'training.schedule="daily" is not a cron expression:',
        ),
        ({"batch": {"enabled": True, "output": "/x"}}, "batch.data: set it to the data set to score"),
        ({"batch": {"enabled": True, "data": "/x"}}, "batch.output: set it to the folder for predictions"),
        (
            merged(SCORED, {"batch": {"model": "models:/churn/3"}}),
            "batch.model=models:/churn/3 is looked up in MLflow, but mlflow.trackingUri is empty",
        ),
        (merged(SCORED, {"batch": {"schedule": "0 3 * *"}}), 'batch.schedule="0 3 * *" is not a cron expression'),
    ],
)
def test_impossible_values_fail_with_a_sentence(values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        rendered(values)

    assert sentence in str(refused.value)


def test_macros_and_names_are_cron_expressions() -> None:
    for schedule in ("@daily", "*/5 0-6 1,15 JAN MON-FRI"):
        assert only(training({"schedule": schedule}), "CronJob")["spec"]["schedule"] == schedule
