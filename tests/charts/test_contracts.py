"""Tests that the chart and the service agree on settings and their defaults."""

import json
from typing import Any, get_args

import pytest

from app.settings import Settings
from app.uri import ModelFolder
from tests.charts.harness import MINIMAL, environment, pod_template
from tools.charts import MODEL_SERVICE, Values, render

PREFIX = "MODEL_SERVICE_"
# mypy does not know that the environment provides the required fields.
NOTHING: dict[str, Any] = {}
REGISTERED: dict[str, Any] = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {"trackingUri": "https://mlflow.example"},
}


def settings(monkeypatch: pytest.MonkeyPatch, values: Values) -> Settings:
    """Return the settings that the service reads in a pod of the chart."""
    for name, value in environment(render(MODEL_SERVICE, values)).items():
        if isinstance(value, str):  # else the kubelet provides it
            monkeypatch.setenv(name, value)
    return Settings(**NOTHING)


def test_environment_variables_are_settings_of_the_service() -> None:
    names = environment(render(MODEL_SERVICE, MINIMAL))

    assert Settings.model_config["env_prefix"] == PREFIX
    assert {name.removeprefix(PREFIX).lower() for name in names} <= Settings.model_fields.keys()


def test_chart_and_service_have_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, MINIMAL)

    differing = {name for name, field in Settings.model_fields.items() if getattr(read, name) != field.default}

    assert differing == {"model_uri", "app_name", "image", "monitoring_port"}


def test_metrics_and_health_are_found_on_their_own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(MODEL_SERVICE, {**MINIMAL, "monitoring": {"serviceMonitor": {"enabled": True}}})
    services = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Service"}
    (port,) = services["demo-model-service-metrics"]["ports"]
    (pod,) = next(each for each in objects if each["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in pod["ports"]}
    check = next(each for each in objects if each["kind"] == "Pod")["spec"]["containers"][0]["args"]
    (endpoint,) = next(each for each in objects if each["kind"] == "ServiceMonitor")["spec"]["endpoints"]

    read = settings(monkeypatch, MINIMAL).monitoring_port

    assert (port["port"], ports[port["targetPort"]]) == (read, read)
    assert {pod[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")} == {"metrics"}
    assert endpoint["port"] == port["name"]
    assert check == ["http://demo-model-service:80", f"--metrics=http://demo-model-service-metrics:{read}"]
    assert [each["targetPort"] for each in services["demo-model-service"]["ports"]] == ["http"], "it may be public"


def test_pods_of_a_registered_model_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(MODEL_SERVICE, REGISTERED)
    (service,) = (each for each in objects if each["metadata"]["name"] == "demo-model-service-peers")
    (port,) = service["spec"]["ports"]
    pod = next(each for each in objects if each["kind"] == "Deployment")["spec"]["template"]
    ports = {each["name"]: each["containerPort"] for each in pod["spec"]["containers"][0]["ports"]}

    read = settings(monkeypatch, REGISTERED)

    assert read.peers_host == f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert (port["port"], ports[port["targetPort"]]) == (read.peers_port, read.peers_port)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    revision = environment(objects)["MODEL_SERVICE_REVISION"]
    assert revision == {"fieldRef": {"fieldPath": "metadata.labels['pod-template-hash']"}}


def test_release_follows_an_alias_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in environment(render(MODEL_SERVICE, REGISTERED)) if "FOLLOW" in name]
    defaults = {name: field.default for name, field in Settings.model_fields.items() if name.startswith("follow_")}

    read = settings(monkeypatch, {**REGISTERED, "model": {**REGISTERED["model"], "follow": {"enabled": True}}})

    assert {name: getattr(read, name) for name in defaults} == defaults | {"follow_poll_seconds": 30}


def test_release_that_trains_exports_the_decision_of_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"enabled": True, "settings": {"model_name": "churn"}}
    folder = {**MINIMAL, "mlflow": REGISTERED["mlflow"]}

    assert settings(monkeypatch, {**REGISTERED, "training": training}).candidate_poll_seconds == 300
    for values in (REGISTERED, {**folder, "training": training}):
        assert "MODEL_SERVICE_CANDIDATE_POLL_SECONDS" not in environment(render(MODEL_SERVICE, values))


def test_release_has_a_challenger_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in environment(render(MODEL_SERVICE, REGISTERED)) if "CHALLENGER" in name]
    defaults = {name: field.default for name, field in Settings.model_fields.items() if name.startswith("challenger_")}

    read = settings(monkeypatch, {**REGISTERED, "challenger": {"uri": "models:/churn@next"}})

    expected = defaults | {"challenger_uri": "models:/churn@next"}
    assert {name: getattr(read, name) for name in defaults} == expected


@pytest.mark.parametrize(
    "values", [MINIMAL, {**REGISTERED, "model": {**REGISTERED["model"], "peers": {"enabled": False}}}]
)
def test_pods_without_a_registry_or_peers_have_no_second_port(values: Values) -> None:
    objects = render(MODEL_SERVICE, values)

    assert not [each for each in objects if each["metadata"]["name"].endswith("-peers")]
    assert not [name for name in environment(objects) if "PEERS" in name or "REVISION" in name]


@pytest.mark.parametrize(
    ("uri", "folder", "name", "volume"),
    [
        (
            "pvc://models",
            "/models/models",
            "models",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
        ),
        (
            "pvc://models/team/churn/",
            "/models/models/team/churn",
            "churn",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
        ),
        (
            "oci://registry.example:5000/team/churn:7#model",
            "/models/image/model",
            "churn",
            {"image": {"reference": "registry.example:5000/team/churn:7", "pullPolicy": "IfNotPresent"}},
        ),
        (
            f"oci://churn@sha256:{'a' * 64}",
            "/models/image",
            "churn",
            {"image": {"reference": f"churn@sha256:{'a' * 64}", "pullPolicy": "IfNotPresent"}},
        ),
    ],
)
def test_model_on_a_volume_is_mounted_read_only(
    monkeypatch: pytest.MonkeyPatch, uri: str, folder: str, name: str, volume: dict[str, Any]
) -> None:
    objects = render(MODEL_SERVICE, {"model": {"uri": uri}})
    spec = pod_template(objects)["spec"]
    mounts = {each["name"]: each for each in spec["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each for each in spec["volumes"]}

    read = settings(monkeypatch, {"model": {"uri": uri}})

    assert isinstance(read.source, ModelFolder)
    assert (str(read.source.path), read.served_name) == (folder, name)
    assert mounts["model"]["readOnly"] is True
    assert folder.startswith(mounts["model"]["mountPath"])
    assert volumes["model"] == {"name": "model", **volume}
    assert "PEERS_HOST" not in str(environment(objects))


def test_cache_can_be_a_claim() -> None:
    values = {**REGISTERED, "model": {**REGISTERED["model"], "cache": {"existingClaim": "models"}}}
    volumes = [
        {each["name"]: each for each in pod_template(render(MODEL_SERVICE, each))["spec"]["volumes"]}["cache"]
        for each in (REGISTERED, values)
    ]

    assert volumes == [
        {"name": "cache", "emptyDir": {}},
        {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}},
    ]


def test_values_reach_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "model": {"uri": "models:/churn@champion", "name": "churn-eu", "loadTimeoutSeconds": 7},
        "mlflow": {"trackingUri": "https://mlflow.example"},
        "api": {"maxRows": 5, "maxBodyBytes": 104857600},
        "logging": {"level": "debug"},
        "monitoring": {"latencyBuckets": [0.00001, 2], "slo": {"latency": {"thresholdSeconds": 0.3}}},
    }

    read = settings(monkeypatch, values)

    assert (read.served_name, read.model_uri) == ("churn-eu", "models:/churn@champion")
    assert read.tracking_address == "https://mlflow.example"
    assert (read.load_timeout_seconds, read.max_rows, read.max_body_bytes) == (7, 5, 104_857_600)
    assert read.log_level == "debug"
    assert (read.latency_buckets, read.latency_objective_seconds) == ((0.00001, 2), 0.3)


def test_log_levels_match_the_service() -> None:
    schema = json.loads((MODEL_SERVICE / "values.schema.json").read_text())

    levels = schema["properties"]["logging"]["properties"]["level"]["enum"]

    assert levels == [*get_args(Settings.model_fields["log_level"].annotation), None]
