"""Tests of the objects that the MLflow subchart renders. MLflow's own code checks the Host headers."""

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import container, environment, kinds, only, pod_template
from tools.charts import MLFLOW, HelmError, Object, Values, render

DEFAULT_KINDS = ["Deployment", "PersistentVolumeClaim", "Pod", "Service", "ServiceAccount"]
POD_IP = "198.18.0.7"
REMOTE: Values = {
    "mlflow": {
        "backendStoreUriFrom": {"secretKeyRef": {"name": "db", "key": "uri"}},
        "artifactsDestination": "s3://models/mlflow",
    },
    "storage": {"enabled": False},
}


def security_utils() -> Path:
    """Return the file that checks Host headers. Importing it by name would load all of mlflow.server: 13 seconds."""
    package = find_spec("mlflow")
    assert package
    assert package.origin
    return Path(package.origin).parent / "server" / "security_utils.py"


SECURITY = runpy.run_path(str(security_utils()))
is_allowed_host_header, should_block_cors_request = (
    SECURITY["is_allowed_host_header"], SECURITY["should_block_cors_request"]
)  # fmt: skip


def rendered(values: Values | None = None) -> list[Object]:
    """Return the subchart's objects for release obs in namespace monitoring."""
    return render(MLFLOW, values, release="obs", namespace="monitoring")


def monitored(**settings: Any) -> Values:
    """Return values with a ServiceMonitor."""
    return {"monitoring": {"serviceMonitor": {"enabled": True, **settings}}}


def allowed_hosts(values: Values | None = None, pod_ip: str = POD_IP) -> list[str]:
    """Return the allowed hosts after the kubelet has inserted the pod address."""
    text: str = environment(rendered(values))["MLFLOW_SERVER_ALLOWED_HOSTS"]
    return text.replace("$(POD_IP)", pod_ip).split(",")


def test_default_objects() -> None:
    assert kinds(rendered()) == DEFAULT_KINDS


def test_volume_absent_with_database_and_bucket() -> None:
    objects = rendered(REMOTE)

    assert kinds(objects) == ["Deployment", "Pod", "Service", "ServiceAccount"]
    assert environment(objects)["MLFLOW_BACKEND_STORE_URI"] == {"secretKeyRef": {"name": "db", "key": "uri"}}
    assert environment(objects)["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://models/mlflow"


def test_service_monitor_rendered_when_enabled() -> None:
    objects = rendered({"monitoring": {"serviceMonitor": {"enabled": True}, "labels": {"release": "prometheus"}}})

    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")

    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_metrics_absent_when_disabled() -> None:
    assert "MLFLOW_EXPOSE_PROMETHEUS" in environment(rendered())
    assert "MLFLOW_EXPOSE_PROMETHEUS" not in environment(rendered({"monitoring": {"metrics": {"enabled": False}}}))


@pytest.mark.parametrize(
    "host",
    [
        "obs-mlflow",
        "obs-mlflow:5000",
        "obs-mlflow.monitoring:5000",
        "obs-mlflow.monitoring.svc:5000",
        "obs-mlflow.monitoring.svc.cluster.local",
        "obs-mlflow.monitoring.svc.cluster.local:5000",
        "localhost:34567",
        "127.0.0.1:5000",
        POD_IP,
        f"{POD_IP}:5000",
    ],
)
def test_names_and_addresses_of_the_server_are_allowed_hosts(host: str) -> None:
    assert is_allowed_host_header(allowed_hosts(), host)


@pytest.mark.parametrize("host", ["evil.example", "obs-mlflow.evil.example", "198.18.0.8:5000", "obs-mlflow:80"])
def test_other_hosts_are_rejected(host: str) -> None:
    assert not is_allowed_host_header(allowed_hosts(), host)


def test_ipv6_pod_address_is_an_allowed_host() -> None:
    assert is_allowed_host_header(allowed_hosts(pod_ip="fd00::7"), "[fd00::7]:5000")


def test_allowed_hosts_follow_port_domain_and_extras() -> None:
    values = {"service": {"port": 80}, "server": {"clusterDomain": "corp", "extraAllowedHosts": ["ml.example"]}}

    hosts = allowed_hosts(values)

    assert is_allowed_host_header(hosts, "obs-mlflow.monitoring.svc.corp")
    assert is_allowed_host_header(hosts, "obs-mlflow:80")
    assert is_allowed_host_header(hosts, "ml.example")
    assert is_allowed_host_header(hosts, f"{POD_IP}:5000"), "Prometheus scrapes the container's port"


def test_pod_address_is_defined_before_the_allowed_hosts() -> None:
    names = [entry["name"] for entry in container(rendered())["env"]]

    assert names.index("POD_IP") < names.index("MLFLOW_SERVER_ALLOWED_HOSTS")


def test_server_runs_one_worker_without_jobs_or_telemetry() -> None:
    variables = environment(rendered())

    assert container(rendered())["command"][:3] == ["python3", "-m", "mlflow_server.serve"], "listens on both families"
    assert variables["MLFLOW_WORKERS"] == "1"
    assert variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("values", [{}, REMOTE])
def test_preparation_has_the_image_and_settings_of_the_server(values: Values) -> None:
    objects = rendered(values)

    (preparation,) = pod_template(objects)["spec"]["initContainers"]

    assert preparation["command"] == ["python3", "-m", "mlflow_server.prepare"]
    assert preparation["image"] == container(objects)["image"]
    assert preparation["volumeMounts"] == container(objects)["volumeMounts"]
    shared = {entry["name"]: entry for entry in preparation["env"]}
    for name in ("HOME", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"):
        assert shared[name] in container(objects)["env"]


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ({}, "Recreate"),
        ({"storage": {"accessMode": "ReadWriteOncePod"}}, "Recreate"),
        (REMOTE, "RollingUpdate"),
        ({**REMOTE, "deployment": {"strategy": {"type": "Recreate"}}}, "Recreate"),
    ],
)
def test_update_strategy_depends_on_the_storage(values: Values, strategy: str) -> None:
    assert only(rendered(values), "Deployment")["spec"]["strategy"]["type"] == strategy


def test_data_is_on_a_volume_that_is_kept_on_uninstall() -> None:
    objects = rendered()

    claim = only(objects, "PersistentVolumeClaim")
    mounts = {mount["mountPath"] for mount in container(objects)["volumeMounts"]}

    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert mounts == {"/mlflow", "/tmp", environment(objects)["HOME"]}  # noqa: S108
    assert environment(objects)["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////mlflow/mlflow.db"
    assert environment(objects)["MLFLOW_ARTIFACTS_DESTINATION"] == "/mlflow/artifacts"


@pytest.mark.parametrize("probe", ["startup", "readiness", "liveness"])
def test_probe_requests_health_unless_null(probe: str) -> None:
    assert container(rendered())[f"{probe}Probe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert f"{probe}Probe" not in container(rendered({f"{probe}Probe": None}))


def test_pod_meets_the_restricted_pod_security_standard() -> None:
    spec = pod_template(rendered())["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["securityContext"] == restricted | {"fsGroup": 10001}, "the group makes the volume writable"
    for item in spec["initContainers"] + spec["containers"]:
        assert item["securityContext"]["readOnlyRootFilesystem"] is True
        assert item["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert item["resources"] == {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"memory": "1536Mi"},
        }


def test_selectors_contain_only_name_and_instance() -> None:
    objects = rendered({"pod": {"labels": {"tier": "gold"}}})
    selector = {"app.kubernetes.io/name": "mlflow", "app.kubernetes.io/instance": "obs"}

    deployment = only(objects, "Deployment")["spec"]

    assert deployment["selector"] == {"matchLabels": selector}
    assert deployment["template"]["metadata"]["labels"] == {**selector, "tier": "gold"}
    assert only(objects, "Service")["spec"]["selector"] == selector


def test_names_fit_with_the_longest_release_name() -> None:
    objects = render(MLFLOW, release="a" * 53)

    assert {item["metadata"]["name"] for item in objects} == {"a" * 53 + "-m", "a" * 53 + "-m-check"}


def test_auth_configures_server_preparation_scrape_and_jobs() -> None:
    auth = {"enabled": True, "existingSecret": "login", "passwordKey": "word"}
    values = {"auth": auth, "garbageCollection": {"enabled": True}, **monitored()}
    objects = rendered(values)
    (preparation,) = pod_template(objects)["spec"]["initContainers"]
    password = {"secretKeyRef": {"name": "login", "key": "word"}}

    names = {entry["name"] for entry in preparation["env"]}
    endpoint = only(objects, "ServiceMonitor")["spec"]["endpoints"][0]
    collection = only(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    checker = only(objects, "Pod")["spec"]["containers"][0]

    read = {"AUTH_DEFAULT_PERMISSION", "AUTH_CACHE_TTL_SECONDS", "PREPARE_TIMEOUT_SECONDS", "PREPARE_DATABASE_KEY"}
    assert {*read, "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_FLASK_SERVER_SECRET_KEY"} <= names
    assert environment(objects)["MLFLOW_AUTH_ADMIN_PASSWORD"] == password
    assert container(objects)["command"][-2:] == ["--app-name", "basic-auth"]
    assert endpoint["basicAuth"]["password"] == password["secretKeyRef"]
    for client in (collection, checker):
        assert {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": password} in client["env"]


def test_auth_absent_by_default() -> None:
    objects = rendered({"garbageCollection": {"enabled": True}, **monitored()})

    assert "MLFLOW_AUTH" not in str(objects)
    assert "MLFLOW_TRACKING_PASSWORD" not in str(objects)
    assert "basicAuth" not in str(objects)


def test_outer_hosts_and_their_origins_are_allowed() -> None:
    values: Values = {
        "ingress": {"enabled": True, "hosts": [{"host": "ml.example"}]},
        "httpRoute": {"enabled": True, "hostnames": ["*.ml.example"], "parentRefs": [{"name": "public"}]},
        "server": {"corsAllowedOrigins": ["https://portal.example"]},
    }
    origins = environment(rendered(values))["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")

    for host in ("ml.example", "ml.example:8443", "a.ml.example"):
        assert is_allowed_host_header(allowed_hosts(values), host)
    assert not is_allowed_host_header(allowed_hosts(values), "ml.example.evil")
    for origin in ("https://ml.example", "https://ml.example:8443", "https://a.ml.example", "https://portal.example"):
        assert not should_block_cors_request(origin, "POST", origins), origin
    assert should_block_cors_request("https://evil.example", "POST", origins)
    assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in environment(rendered())


def test_prefix_moves_probes_routes_and_clients_together() -> None:
    values: Values = {
        "server": {"staticPrefix": "/ml"},
        "ingress": {"enabled": True, "hosts": [{"host": "shared.example"}]},
        "httpRoute": {"enabled": True, "hostnames": ["shared.example"], "parentRefs": [{"name": "public"}]},
    }
    objects = rendered(values)
    server = container(objects)
    [rule] = only(objects, "Ingress")["spec"]["rules"]
    [route] = only(objects, "HTTPRoute")["spec"]["rules"]
    [client] = only(objects, "Pod")["spec"]["containers"]

    assert server["command"][-2:] == ["--static-prefix", "/ml"]
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    assert {server[probe]["httpGet"]["path"] for probe in probes} == {"/ml/health"}
    assert [path["path"] for path in rule["http"]["paths"]] == ["/ml"]
    assert route["matches"] == [{"path": {"type": "PathPrefix", "value": "/ml"}}]
    assert client["env"][0]["value"] == "http://obs-mlflow.monitoring.svc.cluster.local:5000/ml"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"server": {"staticPrefix": "ml"}}, "staticPrefix"),
        ({"server": {"staticPrefix": "/ml/"}}, "staticPrefix"),
        ({"server": {"extraArgs": ["--static-prefix=/ml"]}}, "set server.staticPrefix instead."),
        ({"server": {"extraArgs": ["--app-name", "oidc-auth"]}}, "set server.appName instead."),
        (
            {"server": {"appName": "oidc-auth"}, "auth": {"enabled": True, "existingSecret": "login"}},
            "server.appName=oidc-auth contradicts auth.enabled=true",
        ),
    ],
)
def test_prefix_and_application_that_cannot_work_are_refused(values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        rendered(values)

    assert sentence in str(refused.value)


def test_application_of_a_plugin_handles_the_requests() -> None:
    def command(values: Values) -> list[str]:
        found: list[str] = container(rendered(values))["command"]
        return found

    assert command({"server": {"appName": "oidc-auth"}})[-2:] == ["--app-name", "oidc-auth"]
    assert command({"auth": {"enabled": True, "existingSecret": "login"}})[-2:] == ["--app-name", "basic-auth"]
    assert "--app-name" not in command({})


def test_two_pods_have_a_disruption_budget_and_no_volume() -> None:
    objects = rendered({**REMOTE, "replicaCount": 2})
    spec = pod_template(objects)["spec"]

    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    # A constraint on the zone would disable spreading on nodes without that label.
    assert [item["topologyKey"] for item in spec["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
    assert only(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "data" not in {volume["name"] for volume in spec["volumes"]}
    assert "PodDisruptionBudget" not in kinds(rendered(REMOTE))


def test_bucket_has_endpoint_region_and_credentials() -> None:
    objects = rendered({**REMOTE, "s3": {"existingSecret": "keys", "endpointUrl": "http://s3:9000", "region": "eu"}})

    assert environment(objects)["MLFLOW_S3_ENDPOINT_URL"] == "http://s3:9000"
    assert environment(objects)["AWS_DEFAULT_REGION"] == "eu"
    for item in (container(objects), *pod_template(objects)["spec"]["initContainers"]):
        assert item["envFrom"] == [{"secretRef": {"name": "keys"}}]


@pytest.mark.parametrize(("values", "colocated"), [({}, True), (REMOTE, False)], ids=["sqlite", "database"])
def test_garbage_collection_shares_the_node_only_with_sqlite(values: Values, colocated: bool) -> None:
    job = only(rendered({**values, "garbageCollection": {"enabled": True}}), "CronJob")["spec"]
    pod = job["jobTemplate"]["spec"]["template"]

    assert ("affinity" in pod["spec"]) is colocated
    assert ("data" in {volume["name"] for volume in pod["spec"]["volumes"]}) is colocated
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "mlflow-gc", "the Service must not select it"
    assert pod["spec"]["containers"][0]["command"][-2:] == ["--older-than", "30d"]
    assert job["concurrencyPolicy"] == "Forbid"


def test_garbage_collection_has_the_sidecars_and_volumes_of_the_server() -> None:
    proxy = {"name": "proxy", "image": "example/proxy:1", "restartPolicy": "Always"}
    volume, mount = {"name": "ca", "configMap": {"name": "ca"}}, {"name": "ca", "mountPath": "/etc/ca"}
    own: Values = {"pod": {"initContainers": [proxy]}, "extraVolumes": [volume], "extraVolumeMounts": [mount]}

    objects = rendered({**REMOTE, **own, "garbageCollection": {"enabled": True}})

    for pod in (pod_template(objects), only(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]):
        assert pod["spec"]["initContainers"][0] == proxy
        assert volume in pod["spec"]["volumes"]
        assert mount in pod["spec"]["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    "destination",
    ["gs://models/mlflow", "wasbs://models@team.blob.core.windows.net/mlflow", "abfss://m@team.dfs.core.windows.net/"],
)
def test_stores_of_clouds_are_accepted(destination: str) -> None:
    objects = rendered({"mlflow": {**REMOTE["mlflow"], "artifactsDestination": destination}})

    assert environment(objects)["MLFLOW_ARTIFACTS_DESTINATION"] == destination


def test_policy_allows_the_given_clients_and_egress() -> None:
    policy = {
        "enabled": True,
        "ingressFrom": [{"podSelector": {}}],
        "extraEgress": [{"ports": [{"port": 5432}]}],
    }
    values = {
        **REMOTE,
        "networkPolicy": policy,
        **monitored(),
        "garbageCollection": {"enabled": True},
    }

    spec = only(rendered(values), "NetworkPolicy")["spec"]

    names = [
        item["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") for item in spec["ingress"][0]["from"]
    ]
    assert names == [None, "prometheus", "mlflow-gc", "mlflow-test"]
    assert [rule["ports"][0]["port"] for rule in spec["egress"]] == [53, 5432]


def test_existing_claim_is_mounted_and_none_created() -> None:
    objects = rendered({"storage": {"existingClaim": "mine"}})

    assert "PersistentVolumeClaim" not in kinds(objects)
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}} in pod_template(objects)["spec"]["volumes"]
