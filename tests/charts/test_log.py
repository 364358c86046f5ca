"""Tests of the inference log: its sidecar, volumes, variables, network policy and refusals."""

from typing import Any

import pytest

from tests.charts.harness import container, environment, only, pod_template, rendered
from tools.charts import HelmError, Object, Values

FOLDER = "/var/lib/model-service/payload"


def log(uri: str = "s3://logs/churn", /, **parquet: Any) -> dict[str, Any]:
    """Return values for an inference log."""
    return {"logging": {"payload": {"sampleRatio": 1, "sink": "parquet", "parquet": {"uri": uri, **parquet}}}}


def shipper(objects: list[Object]) -> Object:
    """Return the sidecar."""
    found: list[Object] = pod_template(objects)["spec"]["initContainers"]
    (sidecar,) = [each for each in found if each["name"] == "log-shipper"]
    return sidecar


def variables(objects: list[Object]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in shipper(objects)["env"]}


def volume(objects: list[Object], name: str) -> Object | None:
    return next((each for each in pod_template(objects)["spec"]["volumes"] if each["name"] == name), None)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"logging": {"payload": {"sampleRatio": 1}}},
        {"logging": None},
        {"logging": {"payload": None}},
        {"logging": {"payload": {"sampleRatio": 1, "sink": None, "parquet": None}}},
    ],
)
def test_log_on_standard_output_has_no_sidecar(values: Values) -> None:
    objects = rendered(values)

    assert "initContainers" not in pod_template(objects)["spec"]
    assert volume(objects, "payload") is None
    assert "MODEL_SERVICE_PAYLOAD_DIR" not in environment(objects)


def test_service_and_sidecar_share_a_bounded_volume() -> None:
    objects = rendered(log(flushSeconds=0.5, rotateSeconds=60, bufferBytes=8388608))

    mounts = [{each["mountPath"] for each in one["volumeMounts"]} for one in (container(objects), shipper(objects))]
    assert all(FOLDER in each for each in mounts)
    assert volume(objects, "payload") == {"name": "payload", "emptyDir": {"sizeLimit": "10485760"}}
    found = {name: value for name, value in environment(objects).items() if name.startswith("MODEL_SERVICE_PAYLOAD_")}
    assert found == {
        "MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO": "1",
        "MODEL_SERVICE_PAYLOAD_REDACT": "[]",
        "MODEL_SERVICE_PAYLOAD_DIR": FOLDER,
        "MODEL_SERVICE_PAYLOAD_FLUSH_SECONDS": "0.5",
        "MODEL_SERVICE_PAYLOAD_ROTATE_SECONDS": "60",
        "MODEL_SERVICE_PAYLOAD_BUFFER_BYTES": "8388608",
    }


def test_size_limit_of_the_volume_can_be_set() -> None:
    objects = rendered(log() | {"emptyDirSizeLimits": {"payload": "1Gi"}})

    assert volume(objects, "payload") == {"name": "payload", "emptyDir": {"sizeLimit": "1Gi"}}


def test_sidecar_ends_after_the_service_and_has_its_restrictions() -> None:
    objects = rendered(log(retentionDays=30))

    found = shipper(objects)
    assert found["restartPolicy"] == "Always"  # a sidecar, which the kubelet stops last
    assert found["image"].startswith("ghcr.io/model-service/model-service-training:")
    assert found["command"][-2:] == ["training", "ship"]
    assert found["securityContext"] == container(objects)["securityContext"]
    assert found["resources"]["limits"] == {"memory": "512Mi"}
    assert pod_template(objects)["spec"]["automountServiceAccountToken"] is False
    assert variables(objects) == {
        "TRAINING_SEGMENTS": FOLDER,
        "TRAINING_LOG_URI": "s3://logs/churn",
        "TRAINING_POD": {"fieldRef": {"fieldPath": "metadata.name"}},
        "TRAINING_RETENTION_DAYS": "30",
        "TRAINING_TAKE_OPEN": "true",
    }


def test_sidecar_has_the_credentials_of_the_service_and_its_own() -> None:
    values = log(
        extraEnv=[{"name": "AWS_REGION", "value": "eu-north-1"}], extraEnvFrom=[{"secretRef": {"name": "writer"}}]
    )
    shared = {"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage.svc:9000"}
    objects = rendered(values | {"extraEnv": [shared], "extraEnvFrom": [{"secretRef": {"name": "reader"}}]})

    assert variables(objects)["AWS_ENDPOINT_URL"] == "http://minio.storage.svc:9000"
    assert variables(objects)["AWS_REGION"] == "eu-north-1"
    assert shipper(objects)["envFrom"] == [{"secretRef": {"name": "reader"}}, {"secretRef": {"name": "writer"}}]
    assert "AWS_REGION" not in environment(objects)
    assert container(objects)["envFrom"] == [{"secretRef": {"name": "reader"}}]


@pytest.mark.parametrize(
    ("uri", "expected"), [("pvc://logs", "file:///log"), ("pvc://logs/of/churn", "file:///log/of/churn")]
)
def test_claim_is_mounted_in_the_sidecar_only(uri: str, expected: str) -> None:
    objects = rendered(log(uri))

    assert variables(objects)["TRAINING_LOG_URI"] == expected
    assert volume(objects, "log") == {"name": "log", "persistentVolumeClaim": {"claimName": "logs"}}
    assert {"name": "log", "mountPath": "/log"} in shipper(objects)["volumeMounts"]
    assert "log" not in {each["name"] for each in container(objects)["volumeMounts"]}


def test_sidecar_trusts_the_certificate_authorities_of_the_release() -> None:
    objects = rendered(log() | {"mlflow": {"caBundle": {"existingConfigMap": "ca", "key": "root.pem"}}})

    assert variables(objects)["SSL_CERT_FILE"] == "/etc/model-service/ca/root.pem"
    assert "/etc/model-service/ca" in {each["mountPath"] for each in shipper(objects)["volumeMounts"]}


def test_defaults_of_the_log_can_be_removed() -> None:
    removed = ("bufferBytes", "extraEnv", "extraEnvFrom", "flushSeconds", "resources", "retentionDays", "rotateSeconds")
    objects = rendered(log(**dict.fromkeys(removed)))

    assert variables(objects)["TRAINING_RETENTION_DAYS"] == "0"
    assert volume(objects, "payload") == {"name": "payload", "emptyDir": {"sizeLimit": "335544320"}}
    assert "MODEL_SERVICE_PAYLOAD_FLUSH_SECONDS" not in environment(objects)


def test_other_init_containers_stay() -> None:
    objects = rendered(log() | {"pod": {"initContainers": [{"name": "first", "image": "x"}]}})

    assert [each["name"] for each in pod_template(objects)["spec"]["initContainers"]] == ["first", "log-shipper"]


def test_container_that_stages_a_model_writes_no_log() -> None:
    objects = rendered(log() | {"model": {"uri": "s3://models/churn", "flavor": "pyfunc"}})

    (stage,) = [each for each in pod_template(objects)["spec"]["initContainers"] if each["name"] == "stage"]
    assert "MODEL_SERVICE_PAYLOAD_DIR" not in {each["name"] for each in stage["env"]}


@pytest.mark.parametrize(
    ("uri", "env", "port"),
    [
        ("s3://logs/churn", [], 443),
        ("gs://logs/churn", [], 443),
        ("s3://logs/churn", [{"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage.svc:9000"}], 9000),
        ("pvc://logs", [], None),
    ],
)
def test_network_policy_allows_the_storage(uri: str, env: list[Values], port: int | None) -> None:
    objects = rendered(log(uri, extraEnv=env) | {"networkPolicy": {"enabled": True}})

    rules = only(objects, "NetworkPolicy")["spec"]["egress"]
    ports = [each["port"] for rule in rules for each in rule["ports"]]
    assert ports == [53, 53] + ([port] if port else [])


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"sampleRatio": 1, "sink": "parquet", "parquet": None}, "parquet.uri= is not valid"),
        ({"sampleRatio": 1, "sink": "parquet"}, "logging.payload.parquet.uri= is not valid: use s3://"),
        (
            {"sampleRatio": 0, "sink": "parquet", "parquet": {"uri": "s3://logs"}},
            "requires logging.payload.sampleRatio above 0",
        ),
        ({"sampleRatio": 1, "sink": "parquet", "parquet": {"uri": "ftp://logs"}}, "uri=ftp://logs is not valid"),
        ({"sampleRatio": 1, "sink": "parquet", "parquet": {"uri": "pvc://logs/../x"}}, "remove the relative parts"),
        ({"sampleRatio": 1, "sink": "kafka"}, "logging.payload.sink"),
    ],
)
def test_log_that_cannot_work_is_refused(payload: Values, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        rendered({"logging": {"payload": payload}})
