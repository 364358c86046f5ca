"""Tests of what the NetworkPolicies allow: a policy analyser (cyclonus) evaluates the rendered policies."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.charts import MLFLOW, MODEL_SERVICE, render
from tools.cluster.programs import cyclonus

MODELS, MONITORING = "models", "monitoring"
SERVICE_VALUES = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {"trackingUri": f"http://obs-mlflow.{MONITORING}.svc.cluster.local:5000"},
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "tracing": {"otlpEndpoint": "http://collector.tracing.svc.cluster.local:4318"},
    },
    "ingress": {"enabled": True, "hosts": [{"host": "churn.example"}]},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"podSelector": {"matchLabels": {"caller": "friend"}}}],
        "controllerFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
    },
}
MLFLOW_VALUES = {
    "monitoring": {"serviceMonitor": {"enabled": True}},
    "garbageCollection": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MODELS}}}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 5432}]}],
    },
}


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside the cluster if it has no namespace."""

    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    address: str = "198.18.1.1"

    def described(self) -> dict[str, Any]:
        """Return the peer as the analyser reads it."""
        known = {
            "PodLabels": dict(self.labels),
            "NamespaceLabels": {"kubernetes.io/metadata.name": self.namespace},
            "Namespace": self.namespace,
        }
        return {"Internal": known if self.namespace else None, "IP": self.address}


def pod(namespace: str, **labels: str) -> Peer:
    return Peer(namespace, tuple(sorted(labels.items())))


def of_release(objects: list[dict[str, Any]], kind: str, namespace: str) -> Peer:
    """Return the pod of the first object of a kind."""
    found = next(each for each in objects if each["kind"] == kind)
    template = found["spec"].get("jobTemplate", found)["spec"]["template"] if kind != "Pod" else found
    return Peer(namespace, tuple(sorted(template["metadata"]["labels"].items())))


@pytest.fixture(scope="module")
def objects() -> dict[str, list[dict[str, Any]]]:
    return {
        MODELS: render(MODEL_SERVICE, SERVICE_VALUES, release="churn", namespace=MODELS),
        MONITORING: render(MLFLOW, MLFLOW_VALUES, release="obs", namespace=MONITORING),
    }


@pytest.fixture(scope="module")
def policies(objects: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the policies of both releases, a file each, because the analyser reads one document per file."""
    found = [
        {**each, "metadata": {**each["metadata"], "namespace": namespace}}
        for namespace, rendered in objects.items()
        for each in rendered
        if each["kind"] == "NetworkPolicy"
    ]
    assert len(found) == 2
    folder = tmp_path_factory.mktemp("policies")
    for policy in found:
        (folder / f"{policy['metadata']['namespace']}.yaml").write_text(yaml.safe_dump(policy))
    return folder


Connection = tuple[Peer, Peer, int, str, str]  # source, destination, port, its name, protocol


def allowed(policies: Path, connections: list[Connection]) -> list[bool]:
    """Return for each connection whether the policies allow it."""
    traffic = [
        {
            "Source": source.described(),
            "Destination": destination.described(),
            "ResolvedPort": port,
            "ResolvedPortName": name,
            "Protocol": protocol,
        }
        for source, destination, port, name, protocol in connections
    ]
    file = policies.with_name(f"{policies.name}-traffic.json")
    file.write_text(json.dumps(traffic))
    command = [str(cyclonus() / "cyclonus"), "analyze", "--mode=query-traffic", "--policy-path", str(policies)]
    done = subprocess.run(
        [*command, "--traffic-path", str(file)], capture_output=True, text=True, timeout=300, check=True
    )
    answers = re.findall(r"is allowed\?\s*\|\s*(true|false)", done.stdout, re.IGNORECASE)
    return [answer.lower() == "true" for answer in answers]


def table(objects: dict[str, list[dict[str, Any]]]) -> dict[str, tuple[Connection, bool]]:
    """Return each connection with its name, and whether it must be allowed."""
    service, tested = (of_release(objects[MODELS], kind, MODELS) for kind in ("Deployment", "Pod"))
    mlflow, mlflow_test, collection = (
        of_release(objects[MONITORING], kind, MONITORING) for kind in ("Deployment", "Pod", "CronJob")
    )
    friend, other = pod(MODELS, caller="friend"), pod(MODELS, caller="other")
    prometheus = Peer(MONITORING, (("app.kubernetes.io/name", "prometheus"),))
    impostor = Peer("anywhere", prometheus.labels)
    controller, dns = pod("ingress-nginx", app="nginx"), pod("kube-system", app="dns")
    outside = Peer("", address="192.0.2.7")
    database = Peer("", address="203.0.113.9")

    def http(source: Peer, destination: Peer) -> Connection:
        return source, destination, 8000 if destination == service else 5000, "http", "TCP"

    def tcp(source: Peer, destination: Peer, port: int, protocol: str = "TCP") -> Connection:
        return source, destination, port, "", protocol

    return {
        "client to service": (http(friend, service), True),
        "other pod to service": (http(other, service), False),
        "client's labels in another namespace to service": (http(pod("elsewhere", caller="friend"), service), False),
        "address outside to service": (http(outside, service), False),
        "client to another port of service": (tcp(friend, service, 9000), False),
        "Prometheus to the metrics of service": ((prometheus, service, 8002, "metrics", "TCP"), True),
        "Prometheus's label in another namespace to the metrics": ((impostor, service, 8002, "metrics", "TCP"), False),
        "Prometheus's label in another namespace to MLflow": (http(impostor, mlflow), False),
        "Prometheus to the API of service": (http(prometheus, service), False),
        "client to the metrics of service": ((friend, service, 8002, "metrics", "TCP"), False),
        "ingress controller to the metrics of service": ((controller, service, 8002, "metrics", "TCP"), False),
        "helm test to the metrics of service": ((tested, service, 8002, "metrics", "TCP"), True),
        "ingress controller to service": (http(controller, service), True),
        "helm test to service": (http(tested, service), True),
        "service to DNS, UDP": (tcp(service, dns, 53, "UDP"), True),
        "service to DNS, TCP": (tcp(service, dns, 53), True),
        "service to another port of kube-system": (tcp(service, dns, 443), False),
        "service to MLflow": (http(service, mlflow), True),
        "service to another port of MLflow's namespace": (tcp(service, pod(MONITORING, app="prometheus"), 9090), False),
        "service to the collector": (tcp(service, pod("tracing", app="collector"), 4318), True),
        "service to the service's other pods": ((service, service, 8001, "peers", "TCP"), True),
        "client to the port of the service's other pods": ((friend, service, 8001, "peers", "TCP"), False),
        "service to another pod": (tcp(service, other, 8000), False),
        "service to an address outside": (tcp(service, outside, 443), False),
        "pod without a policy to another": (tcp(other, friend, 8000), True),
        "other namespace to MLflow": (http(pod("elsewhere", app="x"), mlflow), False),
        "Prometheus to MLflow": (http(prometheus, mlflow), True),
        "helm test to MLflow": (http(mlflow_test, mlflow), True),
        "garbage collection to MLflow": (http(collection, mlflow), True),
        "MLflow to DNS": (tcp(mlflow, dns, 53, "UDP"), True),
        "MLflow to its database": (tcp(mlflow, database, 5432), True),
        "MLflow to another port of the database": (tcp(mlflow, database, 22), False),
        "MLflow to an address outside": (tcp(mlflow, outside, 443), False),
        "MLflow to the service": (http(mlflow, service), False),
    }


def test_policies_allow_exactly_the_documented_connections(
    objects: dict[str, list[dict[str, Any]]], policies: Path
) -> None:
    expected = table(objects)

    found = allowed(policies, [connection for connection, _ in expected.values()])

    assert dict(zip(expected, found, strict=True)) == {name: allows for name, (_, allows) in expected.items()}


# The egress of the jobs, by the host and port of the destination.
STORE = {"extraEnv": [{"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage.svc:9000"}]}
JOB_DATA: list[tuple[dict[str, Any], str, set[int]]] = [
    ({"training": {"enabled": True}}, "train", set()),
    ({"training": {"enabled": True, "settings": {"train": {"data": "/data/a.csv"}}}}, "train", set()),
    ({"training": {"enabled": True, "settings": {"train": {"data": "s3://lake/a.csv"}}}}, "train", {443}),
    (
        {"training": {"enabled": True, "settings": {"train": {"data": "http://files.example:8080/a?k=v"}}}},
        "train",
        {8080},
    ),
    ({"training": {"enabled": True, "settings": {"train": {"checkpoints": "s3://lake/c"}}, **STORE}}, "train", {9000}),
    ({"training": {"enabled": True, "settings": {"train": {"from_log": "s3://lake/c"}}, **STORE}}, "train", {9000}),
    (
        {"training": {"enabled": True, "extraEnv": [{"name": "TRAINING_DATA", "value": "s3://lake/a.csv"}]}},
        "train",
        {443},
    ),
    ({"batch": {"enabled": True, "data": "s3://lake/in", "output": "/batch"}}, "score", {443}),
    ({"batch": {"enabled": True, "data": "/batch/in", "output": "s3://lake/out"}, "jobs": STORE}, "score", {9000}),
    ({"batch": {"enabled": True, "data": "/batch/in", "output": "/batch/out"}}, "score", set()),
]


@pytest.mark.parametrize(("values", "kind", "ports"), JOB_DATA)
def test_jobs_reach_the_servers_of_their_data(values: dict[str, Any], kind: str, ports: set[int]) -> None:
    base = {
        "model": {"uri": "models:/churn@champion"},
        "mlflow": {"trackingUri": f"http://obs-mlflow.{MONITORING}.svc:5000"},
        "networkPolicy": {"enabled": True},
    }
    (policy,) = [
        each["spec"]
        for each in render(MODEL_SERVICE, {**base, **values})
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"].endswith(kind)
    ]

    opened = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert opened - {53, 5000} == ports
    to = [rule["to"] for rule in policy["egress"] if {"port": 9000} in rule["ports"]]
    assert to in ([], [[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}]])


AZURE = {"extraEnv": [{"name": "AZURE_STORAGE_ENDPOINT", "value": "http://azurite.storage.svc:9000"}]}


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({"model": {"uri": "models:/churn/3"}}, {5000}),
        ({"model": {"uri": "runs:/0a/model"}}, {5000}),
        ({"model": {"uri": "file:///models/churn"}}, set()),
        ({"model": {"uri": "pvc://models/churn"}}, set()),
        ({"model": {"uri": "s3://lake/churn"}}, {443}),
        ({"model": {"uri": "s3://lake/churn"}, **STORE}, {9000}),
        ({"model": {"uri": "gs://lake/churn"}}, {443}),
        ({"model": {"uri": "az://lake/churn"}, **AZURE}, {9000}),
        ({"model": {"uri": "https://models.example:8443/churn", "sha256": "a" * 64}}, {8443}),
    ],
)
def test_service_reaches_the_source_of_its_model_only(values: dict[str, Any], ports: set[int]) -> None:
    base = {"mlflow": {"trackingUri": f"http://obs-mlflow.{MONITORING}.svc:5000"}, "networkPolicy": {"enabled": True}}
    (policy,) = [each["spec"] for each in render(MODEL_SERVICE, {**base, **values}) if each["kind"] == "NetworkPolicy"]

    opened = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert opened - {53, 8001} == ports
    assert (8001 in opened) is bool(ports)  # pods copy what is downloaded
    to = [rule["to"] for rule in policy["egress"] if {"port": 9000} in rule["ports"]]
    assert to in ([], [[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}]])


def test_external_mlflow_does_not_open_the_metadata_server(tmp_path: Path) -> None:
    values = {
        "model": {"uri": "models:/churn@champion"},
        "mlflow": {"trackingUri": "http://mlflow.example"},
        "networkPolicy": {"enabled": True},
    }
    objects = render(MODEL_SERVICE, values, release="churn", namespace=MODELS)
    (policy,) = [each for each in objects if each["kind"] == "NetworkPolicy"]
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    service = of_release(objects, "Deployment", MODELS)
    addresses = ("192.0.2.7", "169.254.169.254", "2001:db8::7", "fd00:ec2::254", "fd20:ce::254")

    found = allowed(folder, [(service, Peer("", address=address), 80, "", "TCP") for address in addresses])

    assert dict(zip(addresses, found, strict=True)) == dict(
        zip(addresses, (True, False, True, False, False), strict=True)
    )
