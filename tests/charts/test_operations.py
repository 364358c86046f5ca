"""Tests of API keys, quotas, the payload log and traces."""

import json
from pathlib import Path
from typing import Any

import pytest

from app import quota_file
from app.quota_file import Policy, Quota
from tests.charts.harness import ANYWHERE, container, environment, only, pod_specs, pod_template, rendered
from tools.charts import HelmError, Object, Values

KEYS = "/etc/model-service/api-keys"
COLLECTOR = "http://collector.observability.svc:4318"
VARIABLES = (
    *("MODEL_SERVICE_API_KEYS_DIR", "MODEL_SERVICE_JWT_", "MODEL_SERVICE_FEEDBACK_"),
    *("MODEL_SERVICE_PAYLOAD_", "MODEL_SERVICE_QUOTAS_", "OTEL_"),
)


def operations(values: Values | None = None) -> dict[str, Any]:
    """Return the environment variables for keys, quotas, payload log and traces."""
    return {name: value for name, value in environment(rendered(values)).items() if name.startswith(VARIABLES)}


def egress(values: Values) -> list[Object]:
    """Return the egress rules without the first one, which allows DNS."""
    objects = rendered({**values, "networkPolicy": {"enabled": True}})
    rules: list[Object] = only(objects, "NetworkPolicy")["spec"]["egress"]
    return rules[1:]


def test_everything_is_off_by_default() -> None:
    objects = rendered()

    assert operations() == {}
    assert not [volume for volume in pod_template(objects)["spec"]["volumes"] if "secret" in volume]
    assert "volumes" not in only(objects, "Pod")["spec"]
    assert "env" not in only(objects, "Pod")["spec"]["containers"][0]
    assert egress({}) == []


def test_api_keys_are_mounted_in_the_service_and_the_helm_test() -> None:
    objects = rendered({"api": {"auth": {"existingSecret": "churn-keys"}}})

    assert operations({"api": {"auth": {"existingSecret": "churn-keys"}}}) == {"MODEL_SERVICE_API_KEYS_DIR": KEYS}
    # A volume without subPath: a variable or a subPath would not follow changes of the Secret.
    mount = {"name": "api-keys", "mountPath": KEYS, "readOnly": True}
    volume = {"name": "api-keys", "secret": {"secretName": "churn-keys"}}
    assert mount in container(objects)["volumeMounts"]
    (test,) = only(objects, "Pod")["spec"]["containers"]
    assert test["volumeMounts"] == [mount]
    assert test["env"] == [{"name": "MODEL_SERVICE_API_KEYS_DIR", "value": KEYS}]
    assert all(volume in spec["volumes"] for spec in pod_specs(objects))


def test_quotas_are_mounted_in_the_form_that_the_service_reads(tmp_path: Path) -> None:
    quotas = {"default": {"requestsPerSecond": 0.5}, "owners": {"web": {"rowsPerSecond": 100, "burstSeconds": 2}}}
    values: Values = {"api": {"auth": {"existingSecret": "churn-keys"}, "quotas": quotas}}
    objects = rendered(values)

    assert operations(values)["MODEL_SERVICE_QUOTAS_FILE"] == "/etc/model-service/quotas/quotas.json"
    # The whole folder without subPath, and no checksum on the pods: the service reads a change of the ConfigMap.
    mount = {"name": "quotas", "mountPath": "/etc/model-service/quotas", "readOnly": True}
    assert mount in container(objects)["volumeMounts"]
    name = only(objects, "ConfigMap")["metadata"]["name"]
    assert {"name": "quotas", "configMap": {"name": name}} in pod_template(objects)["spec"]["volumes"]
    assert "volumes" in only(objects, "Pod")["spec"]
    (tmp_path / "quotas.json").write_text(only(objects, "ConfigMap")["data"]["quotas.json"])
    found = quota_file.read(tmp_path / "quotas.json")
    assert found.of("somebody") == Quota(Policy("requests", 0.5, 5), None)
    assert found.of("web") == Quota(Policy("requests", 0.5, 1), Policy("rows", 100, 200))


ISSUER = "https://login.example.com:8443/realms/shop"


def jwt(**others: Any) -> Values:
    """Return values that accept the tokens of ISSUER and keys."""
    return {"api": {"auth": {"existingSecret": "churn-keys", "jwt": {"issuer": ISSUER, "audience": "churn", **others}}}}


def test_issuer_of_tokens_is_passed_on_and_reachable() -> None:
    values = jwt(requiredScopes=["predict"])

    assert operations(values) == {
        "MODEL_SERVICE_API_KEYS_DIR": KEYS,
        "MODEL_SERVICE_JWT_ISSUER": ISSUER,
        "MODEL_SERVICE_JWT_AUDIENCE": "churn",
        "MODEL_SERVICE_JWT_JWKS_URI": "",
        "MODEL_SERVICE_JWT_OWNER_CLAIM": "sub",
        "MODEL_SERVICE_JWT_REQUIRED_SCOPES": '["predict"]',
        "MODEL_SERVICE_JWT_LEEWAY_SECONDS": "30",
    }
    [rule] = egress(values)
    assert rule["ports"] == [{"port": 8443}]
    [rule] = egress(jwt(jwksUri="http://dex.login.svc.cluster.local:5556/keys"))
    assert rule["ports"] == [{"port": 5556}]


def test_keys_of_an_issuer_in_a_config_map_are_mounted_and_need_no_way_out() -> None:
    values = jwt(existingConfigMap="cluster-keys")
    objects = rendered(values)

    assert operations(values)["MODEL_SERVICE_JWT_JWKS_FILE"] == "/etc/model-service/jwks/jwks.json"
    mount = {"name": "jwks", "mountPath": "/etc/model-service/jwks", "readOnly": True}
    assert mount in container(objects)["volumeMounts"]
    assert {"name": "jwks", "configMap": {"name": "cluster-keys"}} in pod_template(objects)["spec"]["volumes"]
    assert egress(values) == []


def test_changed_quota_changes_only_the_config_map() -> None:
    first, second = (rendered({"api": {"quotas": {"default": {"rowsPerSecond": rate}}}}) for rate in (10, 20))

    assert json.dumps(pod_template(first)) == json.dumps(pod_template(second))
    assert only(first, "ConfigMap")["data"] != only(second, "ConfigMap")["data"]


@pytest.mark.parametrize("quotas", [{}, {"default": {"burstSeconds": 5}}, {"default": None}, None])
def test_quotas_without_a_limit_render_nothing(quotas: Any) -> None:
    objects = rendered({"api": {"quotas": quotas}})

    assert operations({"api": {"quotas": quotas}}) == {}
    assert not [each for each in objects if each["kind"] == "ConfigMap"]


def test_trusted_proxies_are_a_setting() -> None:
    name = "MODEL_SERVICE_TRUSTED_PROXIES"

    assert environment(rendered())[name] == "[]"
    networks = ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::1", "0.0.0.0/0"]
    found = environment(rendered({"api": {"trustedProxies": networks}}))[name]
    assert json.loads(found) == networks


def test_feedback_keys_are_mounted_only_in_the_service() -> None:
    folder = "/etc/model-service/feedback-keys"
    values: Values = {"api": {"feedback": {"existingSecret": "churn-feedback", "maxAgeSeconds": 3600}}}
    objects = rendered(values)

    assert operations(values) == {
        "MODEL_SERVICE_FEEDBACK_KEYS_DIR": folder,
        "MODEL_SERVICE_FEEDBACK_MAX_AGE_SECONDS": "3600",
    }
    assert {"name": "feedback-keys", "mountPath": folder, "readOnly": True} in container(objects)["volumeMounts"]
    volume = {"name": "feedback-keys", "secret": {"secretName": "churn-feedback"}}
    assert volume in pod_template(objects)["spec"]["volumes"]
    assert "volumes" not in only(objects, "Pod")["spec"]


def test_drift_is_counted_unless_disabled() -> None:
    name = "MODEL_SERVICE_DRIFT_MAX_FEATURES"

    assert environment(rendered())[name] == "20"
    assert environment(rendered({"monitoring": {"drift": {"maxFeatures": 5}}}))[name] == "5"
    assert environment(rendered({"monitoring": {"drift": {"maxFeatures": 0}}}))[name] == "0"


def test_probes_and_scrapes_need_no_key() -> None:
    objects = rendered(
        {"api": {"auth": {"existingSecret": "churn-keys"}}, "monitoring": {"serviceMonitor": {"enabled": True}}}
    )

    found = container(objects)
    assert [found[probe]["httpGet"].keys() for probe in ("startupProbe", "readinessProbe", "livenessProbe")] == [
        {"path", "port"}
    ] * 3
    (endpoint,) = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert "authorization" not in endpoint


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"redact": ["age"]}, {}),
        ({"sampleRatio": 0.01}, {"SAMPLE_RATIO": "0.01", "REDACT": "[]"}),
        (
            {"sampleRatio": 1, "redact": ["age", 'a "b", c']},
            {"SAMPLE_RATIO": "1", "REDACT": r'["age","a \"b\", c"]'},
        ),
    ],
)
def test_payload_log(settings: Values, expected: dict[str, str]) -> None:
    found = operations({"logging": {"payload": settings}})

    assert found == {f"MODEL_SERVICE_PAYLOAD_{name}": value for name, value in expected.items()}


def test_tracing_sets_opentelemetry_variables() -> None:
    assert operations({"monitoring": {"tracing": {"otlpEndpoint": COLLECTOR}}}) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    }
    assert (
        operations({"monitoring": {"tracing": {"otlpEndpoint": COLLECTOR, "sampleRatio": 1}}})[
            "OTEL_TRACES_SAMPLER_ARG"
        ]
        == "1"
    )
    assert operations({"monitoring": {"tracing": {"sampleRatio": 1}}}) == {}


@pytest.mark.parametrize(
    ("endpoint", "port", "namespace"),
    [
        (COLLECTOR, 4318, "observability"),
        ("http://collector:4318", 4318, "models"),
        ("https://otlp.vendor.example", 443, None),
        ("http://10.0.0.7:4318/otlp", 4318, None),
    ],
)
def test_network_policy_allows_egress_to_the_collector(endpoint: str, port: int, namespace: str | None) -> None:
    rule: Object = {"ports": [{"port": port}]}
    if namespace:
        rule["to"] = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]
    else:
        rule["to"] = ANYWHERE

    assert egress({"monitoring": {"tracing": {"otlpEndpoint": endpoint}}}) == [rule]


def test_network_policy_allows_egress_to_mlflow_and_collector() -> None:
    mlflow = {"model": {"uri": "models:/churn/3"}, "mlflow": {"trackingUri": "http://obs-mlflow.monitoring.svc:5000"}}

    found = egress({**mlflow, "monitoring": {"tracing": {"otlpEndpoint": COLLECTOR}}})

    assert [rule["ports"][0]["port"] for rule in found] == [5000, 4318, 8001]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"logging": {"payload": {"sampleRatio": 1.1}}}, "/logging/payload/sampleRatio"),
        ({"logging": {"payload": {"redact": "age"}}}, "/logging/payload/redact"),
        ({"monitoring": {"tracing": {"sampleRatio": -1}}}, "/monitoring/tracing/sampleRatio"),
        ({"monitoring": {"tracing": {"otlpEndpoint": "collector:4318"}}}, "/monitoring/tracing/otlpEndpoint"),
        (
            {"monitoring": {"tracing": {"otlpEndpoint": "http://me:secret@collector"}}},
            "/monitoring/tracing/otlpEndpoint",
        ),
        ({"api": {"auth": {"keys": ["secret"]}}}, "/api/auth"),
        (
            {"extraEnv": [{"name": "MODEL_SERVICE_API_KEYS_DIR", "value": "/keys"}]},
            "extraEnv sets MODEL_SERVICE_API_KEYS_DIR",
        ),
        (
            {"extraEnv": [{"name": "MODEL_SERVICE_PAYLOAD_REDACT", "value": "[]"}]},
            "MODEL_SERVICE_PAYLOAD_REDACT, which the",
        ),
    ],
)
def test_invalid_value_is_rejected_by_name(values: Values, key: str) -> None:
    with pytest.raises(HelmError, match=key):
        rendered(values)
