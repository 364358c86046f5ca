"""The main job, on whichever cluster there is: observability, a training run, the model service, a real prediction."""

import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from string import Template
from typing import Any

from tests.charts.umbrella import copy_umbrella
from tests.cluster.access import Access, http, promql
from tests.cluster.cache import LOGS, ROOT
from tests.cluster.console import Failure, run, say, step
from tests.cluster.images import APP, MLFLOW, OPERATOR, PROMETHEUS, RELOADER, TRAINING, Image
from tests.cluster.programs import cluster_programs, find

MODEL, ALIAS = "breast-cancer", "champion"
RELEASE, NAMESPACE = "breast-cancer", "models"
SERVICE = f"service/{RELEASE}-model-service"
OBSERVABILITY, MONITORING = "obs", "monitoring"
TRACKING_URI = f"http://{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local:5000"
MANIFESTS = Path(__file__).parent / "manifests"
PROMETHEUS_VERSION = "v2.53.3"  # Debian's; the operator writes the flags and the configuration that it knows
REQUEST_RATE = f'sum(rate(http_server_requests_total{{namespace="{NAMESPACE}",path="/predict"}}[1m])) > 0'


def image_values(image: Image, prefix: str = "image") -> list[str]:
    """Return the Helm flags that make a chart use an image built here."""
    registry, repository = image.reference.rpartition(":")[0].split("/")
    values = {"registry": registry, "repository": repository, "tag": image.tag}
    return [f"--set-string={prefix}.{key}={value}" for key, value in values.items()]


# What a release says besides, to train its model before it serves it.
TRAINS = (
    *image_values(TRAINING, "training.image"),
    "--set=training.enabled=true",
    "--set=training.resources.requests.cpu=200m",
    "--set=training.verify.maxP99Milliseconds=2000",  # the machine builds and starts everything else beside it
)


def release_status(access: Access, release: str, namespace: str) -> str:
    """Return Helm's word for the state of a release, e.g. `deployed` ("" when there is none)."""
    try:
        text = access.helm("status", release, "--namespace", namespace, "--output", "json")
    except Failure as failure:
        if "not found" in str(failure):
            return ""
        raise
    return str(json.loads(text)["info"]["status"])


def install(access: Access, release: str, chart: Path, namespace: str, *values: str, timeout: str = "5m") -> None:
    """Install or upgrade a release and wait until it is ready, also after an earlier try was killed half-way.

    Raises:
        Failure: it does not get ready; with what its pods say.
    """
    known = release_status(access, release, namespace)
    if known.startswith("pending"):  # Helm refuses to touch it until somebody says what to do
        revisions = json.loads(access.helm("history", release, "--namespace", namespace, "--output", "json"))
        access.helm("uninstall" if len(revisions) == 1 else "rollback", release, "--namespace", namespace)
    command = ["upgrade", "--install", release, str(chart), "--namespace", namespace, "--create-namespace"]
    try:
        access.helm(*command, *values, "--wait", "--timeout", timeout)
    except Failure as failure:
        raise Failure(
            f"{failure}\n{complaints(access, namespace, f'app.kubernetes.io/instance={release}')}"
        ) from failure


def complaints(access: Access, namespace: str, selector: str = "") -> str:
    """Return why pods are not ready, a line per container, or that all are."""
    lines = []
    for pod in access.get_all("pod", selector, namespace):
        known = pod["status"]
        for status in [*known.get("initContainerStatuses", []), *known.get("containerStatuses", [])]:
            if status["ready"] or known["phase"] == "Succeeded":
                continue
            ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated") or {}
            said = ended.get("message") or status["state"].get("waiting", {}).get("message") or "see its log"
            lines.append(f"{pod['metadata']['name']}: {said.strip()}")
    return "\n".join(lines) or f"Every pod in {namespace} is ready."


def install_prometheus(access: Access) -> None:
    """Install the operator and a Prometheus on a cluster for which kube-prometheus-stack cannot be had."""
    programs = cluster_programs()
    apply = ["apply", "--server-side", "--force-conflicts"]
    with step("install prometheus-operator and Prometheus"):
        for manifest in sorted(programs.glob("*.yaml")):
            access.kubectl(*apply, "-f", str(manifest))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING}}
        access.kubectl(*apply, "-f", "-", stdin=json.dumps(namespace))
        images = {image.name.rpartition("-")[2]: image.reference for image in (OPERATOR, RELOADER, PROMETHEUS)}
        access.kubectl("wait", "crd", "prometheuses.monitoring.coreos.com", "--for=condition=Established")
        names = {**images, "version": PROMETHEUS_VERSION, "namespace": MONITORING}
        manifest_text = Template((MANIFESTS / "prometheus.yaml").read_text()).substitute(names)
        access.kubectl(*apply, "-f", "-", stdin=manifest_text)


def install_observability(access: Access, *, with_stack: bool) -> None:
    """Install the umbrella chart; without its stack where another Prometheus serves the cluster."""
    chart = ROOT / "charts" / "observability"
    with step("install charts/observability"), tempfile.TemporaryDirectory() as work:
        if with_stack:
            access.helm("dependency", "build", str(chart))
        else:
            chart = copy_umbrella(Path(work))
        profile = "kind" if with_stack else "existing-prometheus"
        values = [f"--values={chart / f'values-{profile}.yaml'}", *image_values(MLFLOW, "mlflow.image")]
        install(access, OBSERVABILITY, chart, MONITORING, *values, timeout="10m")


def champion(access: Access) -> str:
    """Return the version that the alias names in the cluster's MLflow ("" when there is none)."""
    with access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as mlflow:
        try:
            answer = http(f"{mlflow}/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias={ALIAS}")
        except Failure as failure:
            if "RESOURCE_DOES_NOT_EXIST" in str(failure) or "INVALID_PARAMETER_VALUE" in str(failure):
                return ""
            raise
    return str(answer["model_version"]["version"])


def install_model(access: Access, uri: str = f"models:/{MODEL}@{ALIAS}", *extra: str) -> None:
    """Install or upgrade the model service so that it serves `uri`, and wait until every pod is ready."""
    install(
        access, RELEASE, ROOT / "charts" / "model-service", NAMESPACE, *image_values(APP),
        f"--set-string=model.uri={uri}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=serviceMonitor.enabled=true", "--set=prometheusRule.enabled=true",
        "--set=grafanaDashboards.enabled=true", f"--set=feedback.existingSecret={_feedback_key(access)}",
        "--set=autoscaling.enabled=true", "--set=autoscaling.minReplicas=2", "--set=autoscaling.maxReplicas=3",
        "--set=resources.requests.cpu=100m", *extra,
    )  # fmt: skip


def serve_model(access: Access) -> None:
    """Serve the champion; where there is none, the release trains the first one, and its pods wait for it."""
    if version := champion(access):
        say(f"  ✓  {MODEL}@{ALIAS} is registered as version {version}; not trained again")
        with step("install charts/model-service"):
            install_model(access)
        return
    # A Job that has ended and promoted nothing would stay as it is: to Helm the same values are the same Job.
    access.kubectl("delete", "job", f"--selector=app.kubernetes.io/instance={RELEASE}", "--namespace", NAMESPACE)
    with step("install charts/model-service, which trains its first model"):
        install_model(access, f"models:/{MODEL}@{ALIAS}", *TRAINS)


def _feedback_key(access: Access) -> str:
    """Return the name of the Secret whose key signs feedback tokens; make it unless it is there."""
    name = f"{RELEASE}-feedback"
    if not access.get_all("secret", f"feedback={RELEASE}", NAMESPACE):
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"feedback": RELEASE}}
        key = {"first": secrets.token_urlsafe(24)}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": key}
        access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(secret))
    return name


def predict(url: str) -> dict[str, Any]:
    """Send the model its own input example, with the same program that `helm test` runs, and return the answer."""
    answer: dict[str, Any] = json.loads(run([sys.executable, "-m", "app.check", "predict", url], cwd=ROOT))
    return answer


def run_main_job(access: Access, *, with_stack: bool) -> None:
    """Do all of it and show the answer, where the model comes from and how to reach what now runs."""
    if not with_stack:
        install_prometheus(access)
    install_observability(access, with_stack=with_stack)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
    serve_model(access)
    with access.forward(SERVICE, 80, NAMESPACE) as service:
        with step("predict"):
            answer = predict(service)
            provenance = http(f"{service}/model")
        with (
            access.forward("service/prometheus-operated", 9090, MONITORING) as prometheus,
            step("see the requests in Prometheus (two scrapes, 15 s apart)"),
        ):
            rate = _request_rate(service, prometheus)
    _report(access, answer, provenance, rate)


def _request_rate(service: str, prometheus: str) -> float:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        predict(service)
        found = promql(prometheus, REQUEST_RATE)
        if found:
            return float(found[0]["value"][1])
        time.sleep(1)
    raise Failure("Prometheus shows no request after 180 s. Open its targets page: is the ServiceMonitor picked up?")


def _report(access: Access, answer: dict[str, Any], provenance: dict[str, Any], rate: float) -> None:
    keys = ("name", "version", "alias", "run_id", "sha256", "git_commit", "data_digest")
    origin = "\n".join(f"    {key}: {provenance.get(key)}" for key in keys)
    places = {
        "model": (SERVICE, NAMESPACE, 8000, 80, "/"),
        "MLflow": (f"service/{OBSERVABILITY}-mlflow", MONITORING, 5000, 5000, "/"),
        "Prometheus": ("service/prometheus-operated", MONITORING, 9090, 9090, "/"),
    }
    say(f"\nA pod answered /predict:\n    {json.dumps(answer)[:300]}\nThe model it answered with:\n{origin}")
    say(f"Requests per second to /predict, as Prometheus sees them: {rate:.2f}\n\nReach them from this machine:")
    say(f"    export KUBECONFIG={access.kubeconfig} PATH={find('kubectl').parent}:$PATH")
    for name, (target, namespace, local, port, path) in places.items():
        command = f"kubectl port-forward -n {namespace} {target} {local}:{port}"
        say(f"    {name + ':':<12}{command:<88} then http://127.0.0.1:{local}{path}")
    example = "curl -s http://127.0.0.1:8000/model | jq .input_example"
    post = "curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d @-"
    say(f"Then predict: {example} | {post}")
    say(f"Logs of the builds: {LOGS}. Everything away again: make down.")
