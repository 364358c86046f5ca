"""Tests of the default objects of charts/model-service, and of each switch."""

import json
import math
from typing import Any

import pytest

from tests.charts.harness import container, environment, kinds, only, pod_specs, pod_template, rendered
from tools.charts import Values

SELECTOR = {"app.kubernetes.io/name": "model-service", "app.kubernetes.io/instance": "demo"}
# The job of the series is the Service of the API, although another one leads to the port of the metrics.
NAMES = [{"targetLabel": label, "replacement": "demo-model-service"} for label in ("job", "service")]
DEFAULT_KINDS = ["Deployment", "Pod", "PodDisruptionBudget", "Service", "Service", "ServiceAccount"]
EVERYTHING: Values = {
    "autoscaling": {"enabled": True},
    "monitoring": {"serviceMonitor": {"enabled": True}},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}],
}


def test_default_objects() -> None:
    assert kinds(rendered()) == DEFAULT_KINDS


@pytest.mark.parametrize(
    ("values", "added"),
    [
        ({"autoscaling": {"enabled": True}}, ["HorizontalPodAutoscaler"]),
        ({"monitoring": {"serviceMonitor": {"enabled": True}}}, ["ServiceMonitor"]),
        ({"extraObjects": EVERYTHING["extraObjects"]}, ["ConfigMap"]),
    ],
)
def test_enabling_a_feature_adds_its_object(values: Values, added: list[str]) -> None:
    assert kinds(rendered(values)) == sorted(DEFAULT_KINDS + added)


@pytest.mark.parametrize(
    ("values", "removed"),
    [
        ({"podDisruptionBudget": {"enabled": False}}, "PodDisruptionBudget"),
        ({"serviceAccount": {"create": False}}, "ServiceAccount"),
        ({"tests": {"enabled": False}}, "Pod"),
    ],
)
def test_disabling_a_feature_removes_its_object(values: Values, removed: str) -> None:
    assert kinds(rendered(values)) == [kind for kind in DEFAULT_KINDS if kind != removed]


def test_protocols_are_enabled_by_default() -> None:
    names = ("MODEL_SERVICE_MLFLOW_PROTOCOL", "MODEL_SERVICE_OPEN_INFERENCE_PROTOCOL")
    off: Values = {"api": {"mlflowProtocol": False, "openInferenceProtocol": False}}

    assert [[environment(rendered(values))[name] for name in names] for values in ({}, off)] == [
        ["true", "true"],
        ["false", "false"],
    ]


def test_registered_model_needs_only_two_values() -> None:
    values = {
        "model": {"uri": "models:/churn@champion"},
        "mlflow": {"trackingUri": "http://obs-mlflow.monitoring.svc.cluster.local:5000"},
    }

    variables = environment(rendered(values))

    assert variables["MODEL_SERVICE_MODEL_URI"] == "models:/churn@champion"
    assert variables["MODEL_SERVICE_MLFLOW_TRACKING_URI"] == "http://obs-mlflow.monitoring.svc.cluster.local:5000"


def test_categories_are_rendered_as_json_if_there_are_any() -> None:
    name, categories = "MODEL_SERVICE_MODEL_CATEGORIES", {"colour": ["blue", "red"], "floor": [1, 2]}
    values: Values = {"model": {"uri": "file:///models/example", "categories": categories}}

    assert json.loads(environment(rendered(values))[name]) == categories
    assert name not in environment(rendered({}))


def test_rule_for_unknown_categories_is_rendered_if_there_is_one() -> None:
    name = "MODEL_SERVICE_MODEL_UNKNOWN_CATEGORY"
    values: Values = {"model": {"uri": "file:///models/example", "unknownCategory": "missing"}}

    assert environment(rendered(values))[name] == "missing"
    assert name not in environment(rendered({}))


def test_every_object_has_recommended_and_common_labels() -> None:
    objects = rendered({**EVERYTHING, "commonLabels": {"team": "risk", "app.kubernetes.io/instance": "mine"}})

    for item in (item for item in objects if item["kind"] != "ConfigMap"):
        labels = item["metadata"]["labels"]
        assert labels["team"] == "risk"
        assert labels["app.kubernetes.io/instance"] == "demo", "a common label replaced a selector label"
        assert {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"} <= labels.keys()
        assert item["metadata"]["namespace"] == "models"


def test_selectors_contain_only_name_and_instance() -> None:
    objects = rendered({**EVERYTHING, "commonLabels": {"team": "risk"}, "pod": {"labels": {"tier": "gold"}}})

    assert only(objects, "Service")["spec"]["selector"] == SELECTOR
    for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        assert only(objects, kind)["spec"]["selector"] == {"matchLabels": SELECTOR}


def test_pod_labels_omit_the_chart_version() -> None:
    objects = rendered({"commonLabels": {"team": "risk"}, "pod": {"labels": {"tier": "gold"}}})

    assert pod_template(objects)["metadata"]["labels"] == {**SELECTOR, "team": "risk", "tier": "gold"}


def test_pod_annotations_absent_by_default() -> None:
    assert "annotations" not in pod_template(rendered())["metadata"]


def test_pod_annotations_rendered() -> None:
    objects = rendered({"pod": {"annotations": {"note": "x"}}})

    assert pod_template(objects)["metadata"]["annotations"] == {"note": "x"}


def test_service_does_not_select_the_helm_test_pod() -> None:
    objects = rendered()

    labels = only(objects, "Pod")["metadata"]["labels"]

    assert not SELECTOR.items() <= labels.items()


def test_helm_test_predicts_through_the_service() -> None:
    pod = only(rendered({"service": {"port": 8080}}), "Pod")

    tested = pod["spec"]["containers"][0]

    assert tested["command"] == ["/opt/venv/bin/python", "-m", "app.tools.check", "release"]
    assert tested["args"] == ["http://demo-model-service:8080", "--metrics=http://demo-model-service-metrics:8002"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_pods_meet_the_restricted_pod_security_standard() -> None:
    for spec in pod_specs(rendered()):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, (
            "no user or group, which OpenShift assigns"
        )
        assert spec["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_pods_request_cpu_and_memory_but_limit_only_memory() -> None:
    for spec in pod_specs(rendered()):
        resources = spec["containers"][0]["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}


def test_only_cache_and_tmp_are_writable() -> None:
    objects = rendered()

    mounts = {mount["mountPath"]: mount["name"] for mount in container(objects)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_template(objects)["spec"]["volumes"]}

    assert mounts.keys() == {environment(objects)["MODEL_SERVICE_CACHE_DIR"], "/tmp"}  # noqa: S108
    assert all(volumes[name] == {"name": name, "emptyDir": {}} for name in mounts.values())


def test_probes_request_readiness_and_liveness_paths() -> None:
    pod = container(rendered())

    assert pod["startupProbe"]["httpGet"] == {"path": "/health/ready", "port": "metrics"}
    assert pod["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "metrics"}
    assert pod["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "metrics"}


@pytest.mark.parametrize(("load_seconds", "period_seconds"), [(120, 2), (600, 7), (1, 1)])
def test_startup_probe_outlasts_the_load_timeout(load_seconds: int, period_seconds: int) -> None:
    values = {
        "model": {"uri": "file:///models/example", "loadTimeoutSeconds": load_seconds},
        "startupProbe": {"periodSeconds": period_seconds},
    }

    probe = container(rendered(values))["startupProbe"]

    assert probe["failureThreshold"] == math.ceil((load_seconds + 60) / period_seconds)


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probe_absent_when_disabled(probe: str) -> None:
    assert probe not in container(rendered({probe: None}))


def test_shutdown_leaves_time_for_requests_in_flight() -> None:
    objects = rendered({"pod": {"preStopSleepSeconds": 7, "terminationGracePeriodSeconds": 60}})

    assert container(objects)["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert pod_template(objects)["spec"]["terminationGracePeriodSeconds"] == 60
    assert environment(objects)["MODEL_SERVICE_SHUTDOWN_SECONDS"] == "48"


def test_termination_message_falls_back_to_the_log() -> None:
    assert container(rendered())["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_rolling_update_keeps_full_capacity() -> None:
    spec = only(rendered(), "Deployment")["spec"]

    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_recreate_has_no_rolling_update() -> None:
    assert only(rendered({"deployment": {"strategy": {"type": "Recreate"}}}), "Deployment")["spec"]["strategy"] == {
        "type": "Recreate"
    }


def test_zero_replicas_are_rendered() -> None:
    assert only(rendered({"replicaCount": 0}), "Deployment")["spec"]["replicas"] == 0


def test_replicas_omitted_when_autoscaling_enabled() -> None:
    objects = rendered({"autoscaling": {"enabled": True, "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}})

    autoscaler = only(objects, "HorizontalPodAutoscaler")["spec"]

    assert "replicas" not in only(objects, "Deployment")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == only(objects, "Deployment")["metadata"]["name"]
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (2, 10)
    assert autoscaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert autoscaler["behavior"] == {"scaleDown": {"selectPolicy": "Disabled"}}


@pytest.mark.parametrize(
    ("budget", "rule"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"maxUnavailable": "50%"}, {"maxUnavailable": "50%"}),
        ({"minAvailable": 1, "maxUnavailable": None}, {"minAvailable": 1}),
        ({"minAvailable": 0, "maxUnavailable": None}, {"minAvailable": 0}),
    ],
)
def test_disruption_budget_sets_exactly_one_bound(budget: Values, rule: dict[str, Any]) -> None:
    spec = only(rendered({"podDisruptionBudget": budget}), "PodDisruptionBudget")["spec"]

    assert {key: spec[key] for key in ("minAvailable", "maxUnavailable") if key in spec} == rule


def test_service_monitor_scrapes_the_service() -> None:
    objects = rendered({"monitoring": {"serviceMonitor": {"enabled": True}, "labels": {"release": "prometheus"}}})

    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")

    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"] == [
        {
            "port": "metrics",
            "path": "/metrics",
            "interval": "15s",
            "scheme": "http",
            "scrapeTimeout": "10s",
            "relabelings": NAMES,
        }
    ]
    assert "namespaceSelector" not in monitor["spec"]
    assert monitor["spec"]["sampleLimit"] == 20_000


@pytest.mark.parametrize(("limit", "rendered_as"), [(0, None), (1_500_000, 1_500_000)])
def test_sample_limit_is_rendered_unless_zero(limit: int, rendered_as: int | None) -> None:
    monitor = only(
        rendered({"monitoring": {"serviceMonitor": {"enabled": True, "sampleLimit": limit}}}), "ServiceMonitor"
    )

    assert monitor["spec"].get("sampleLimit") == rendered_as


def test_service_monitor_in_another_namespace_finds_the_service() -> None:
    rules = [{"action": "labeldrop", "regex": "pod"}]
    settings = {"enabled": True, "relabelings": rules, "metricRelabelings": rules}
    values: Values = {"monitoring": {"namespace": "monitoring", "serviceMonitor": settings}}

    monitor = only(rendered(values), "ServiceMonitor")

    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["models"]}
    assert monitor["spec"]["endpoints"][0]["relabelings"] == [*NAMES, *rules]
    assert monitor["spec"]["endpoints"][0]["metricRelabelings"] == rules


def test_pod_monitor_scrapes_the_pods_as_the_service_monitor_does() -> None:
    values: Values = {"monitoring": {"namespace": "monitoring", "serviceMonitor": {"enabled": True}}}
    other = {"monitoring": {**values["monitoring"], "serviceMonitor": {"enabled": True, "usePodMonitor": True}}}

    objects = rendered(other)
    pods, service = only(objects, "PodMonitor"), only(rendered(values), "ServiceMonitor")

    assert "ServiceMonitor" not in kinds(objects)
    assert pods["metadata"] == service["metadata"]
    endpoints = service["spec"].pop("endpoints")
    assert pods["spec"] == {**service["spec"], "podMetricsEndpoints": endpoints}
    assert pods["spec"]["selector"]["matchLabels"].items() <= pod_template(objects)["metadata"]["labels"].items()
    assert endpoints[0]["port"] in [port["name"] for port in container(objects)["ports"]]


def test_service_port_targets_the_container_port() -> None:
    objects = rendered()

    assert only(objects, "Service")["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}
    ]
    assert container(objects)["ports"] == [
        {"name": "http", "containerPort": 8000},
        {"name": "metrics", "containerPort": 8002},
    ]


def test_env_from_absent_by_default() -> None:
    assert "envFrom" not in container(rendered())


def test_existing_secret_provides_credentials() -> None:
    more = {"configMapRef": {"name": "more"}}

    rendered_env = container(rendered({"mlflow": {"existingSecret": "login"}, "extraEnvFrom": [more]}))["envFrom"]

    assert rendered_env == [{"secretRef": {"name": "login"}}, more]


def test_extra_values_reach_the_pod() -> None:
    values: Values = {
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "model", "configMap": {"name": "model"}}],
        "extraVolumeMounts": [{"name": "model", "mountPath": "/models"}],
    }

    objects = rendered(values)

    spec = pod_template(objects)["spec"]
    assert environment(objects)["TZ"] == "UTC"
    assert values["extraVolumes"][0] in spec["volumes"]
    assert values["extraVolumeMounts"][0] in container(objects)["volumeMounts"]


def test_extra_objects_are_rendered_as_templates() -> None:
    assert only(rendered(EVERYTHING), "ConfigMap")["metadata"]["name"] == "demo-more"


def test_pods_prefer_different_nodes_and_zones() -> None:
    constraints = pod_template(rendered())["spec"]["topologySpreadConstraints"]

    # A constraint on the zone would disable spreading on nodes without that label.
    assert [item["topologyKey"] for item in constraints] == ["kubernetes.io/hostname"]
    assert all(item["whenUnsatisfiable"] == "ScheduleAnyway" for item in constraints)
    assert all(item["labelSelector"] == {"matchLabels": SELECTOR} for item in constraints)


def test_empty_list_removes_topology_spread() -> None:
    assert "topologySpreadConstraints" not in pod_template(rendered({"pod": {"topologySpreadConstraints": []}}))["spec"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "ghcr.io/model-service/model-service:0.1.0"),
        ({"registry": "localhost", "repository": "model-service", "tag": "dev"}, "localhost/model-service:dev"),
        ({"registry": "", "repository": "own"}, "own:0.1.0"),
        ({"tag": "dev", "digest": f"sha256:{'a' * 64}"}, f"ghcr.io/model-service/model-service@sha256:{'a' * 64}"),
    ],
)
def test_image_reference(image: Values, reference: str) -> None:
    assert [spec["containers"][0]["image"] for spec in pod_specs(rendered({"image": image}))] == [reference] * 2


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("demo", {}, "demo-model-service"),
        ("my-model-service", {}, "my-model-service"),
        ("demo", {"nameOverride": "churn"}, "demo-churn"),
        ("demo", {"fullnameOverride": "churn"}, "churn"),
        ("a" * 53, {}, "a" * 53 + "-m"),
        ("a" * 42, {}, "a" * 42 + "-model-servic"),
        ("demo", {"fullnameOverride": "a" * 55}, "a" * 55),
    ],
)
def test_names_fit_and_keep_the_release_name(release: str, values: Values, name: str) -> None:
    objects = rendered({**EVERYTHING, "extraObjects": [], **values}, release=release)

    assert {item["metadata"]["name"] for item in objects} == {name, f"{name}-predict", f"{name}-metrics"}
    assert max(len(item["metadata"]["name"]) for item in objects) <= 63


@pytest.mark.parametrize(
    ("account", "name"),
    [({}, "demo-model-service"), ({"name": "own"}, "own"), ({"create": False}, "default")],
)
def test_service_account_name(account: Values, name: str) -> None:
    assert pod_template(rendered({"serviceAccount": account}))["spec"]["serviceAccountName"] == name
