"""The main job, on whichever cluster there is: observability, a training run, the model service, a real prediction."""

import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from string import Template
from typing import Any, Literal

from tools.cluster.access import Access, http, promql
from tools.cluster.cache import LOGS, ROOT
from tools.cluster.console import Failure, run, say, step
from tools.cluster.images import APP, MLFLOW, OPERATOR, PROMETHEUS, RELOADER, TRAINING, Image
from tools.cluster.programs import cluster_programs, find
from tools.cluster.umbrella import copy_umbrella, stack_package

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
    registry, _, repository = image.reference.rpartition(":")[0].partition("/")
    values = {"registry": registry, "repository": repository, "tag": image.tag}
    return [f"--set-string={prefix}.{key}={value}" for key, value in values.items()]


# Additional values of a release that trains its model before it serves it.
TRAINS = (
    *image_values(TRAINING, "jobs.image"),
    "--set=training.enabled=true",
    "--set=training.resources.requests.cpu=200m",
    "--set=training.verify.maxP99Milliseconds=2000",  # the machine builds and starts everything else at the same time
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


def install(access: Access, release: str, chart: Path, namespace: str, *values: str, timeout: str = "10m") -> None:
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
    """Return why pods are not ready, a line per container, pod or claim, or that all are."""
    lines = []
    for pod in access.get_all("pod", selector, namespace):
        known, name = pod["status"], pod["metadata"]["name"]
        for condition in known.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] != "True":
                lines += [f"{name}: {condition.get('message', 'not scheduled')}", *_unbound(access, pod, namespace)]
        for status in [*known.get("initContainerStatuses", []), *known.get("containerStatuses", [])]:
            if status["ready"] or known["phase"] == "Succeeded":
                continue
            ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated") or {}
            said = ended.get("message") or status["state"].get("waiting", {}).get("message") or "see its log"
            lines.append(f"{name}: {said.strip()}")
    return "\n".join(lines) or f"Every pod in {namespace} is ready."


def _unbound(access: Access, pod: Any, namespace: str) -> list[str]:
    """Return a line with the last event of each claim of the pod that is not bound."""
    lines = []
    for volume in pod["spec"].get("volumes", []):
        name = volume.get("persistentVolumeClaim", {}).get("claimName")
        claim = access.get("persistentvolumeclaim", name, namespace) if name else None
        if name and (claim is None or claim["status"].get("phase") != "Bound"):
            said = access.kubectl(
                "events", f"--for=persistentvolumeclaim/{name}", "--namespace", namespace, "--output=json"
            )
            events = json.loads(said)["items"] if said.startswith("{") else []
            lines.append(f"claim {name}: {events[-1]['message'] if events else 'not bound' if claim else 'not found'}")
    return lines


def install_prometheus(access: Access) -> None:
    """Install the operator and a Prometheus on a cluster for which kube-prometheus-stack is not available."""
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
    with step("install charts/observability"), tempfile.TemporaryDirectory() as work:
        if with_stack and stack_package() is None:
            access.helm("dependency", "build", str(ROOT / "charts" / "observability"))
        chart = copy_umbrella(Path(work) / "observability")
        profile = "kind" if with_stack else "existing-prometheus"
        values = [f"--values={chart / f'values-{profile}.yaml'}", *image_values(MLFLOW, "mlflow.image")]
        install(access, OBSERVABILITY, chart, MONITORING, *values)


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
        "--set=monitoring.serviceMonitor.enabled=true", "--set=monitoring.prometheusRule.enabled=true",
        "--set=monitoring.dashboards.enabled=true", f"--set=api.feedback.existingSecret={_feedback_key(access)}",
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
    """Return the name of the Secret whose key signs feedback tokens; create it if it does not exist."""
    name = f"{RELEASE}-feedback"
    if not access.get_all("secret", f"feedback={RELEASE}", NAMESPACE):
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"feedback": RELEASE}}
        key = {"first": secrets.token_urlsafe(24)}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": key}
        access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(secret))
    return name


def predict(url: str) -> dict[str, Any]:
    """Send the model its own input example, with the same program that `helm test` runs, and return the answer."""
    answer: dict[str, Any] = json.loads(run([sys.executable, "-m", "app.tools.check", "predict", url], cwd=ROOT))
    return answer


def run_main_job(access: Access, prometheus: Literal["stack", "stand-in", "existing"]) -> None:
    """Install everything, request a prediction, and show it with the model's origin and the ways to reach what runs.

    Args:
        access: Cluster.
        prometheus: Prometheus that scrapes: of kube-prometheus-stack, a stand-in of images of our own, or somebody
            else's, which is not asked for the requests.
    """
    if prometheus == "stand-in":
        install_prometheus(access)
    install_observability(access, with_stack=prometheus == "stack")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
    serve_model(access)
    with access.forward(SERVICE, 80, NAMESPACE) as service:
        with step("predict"):
            answer = predict(service)
            provenance = http(f"{service}/model")
        if prometheus != "existing":
            with (
                access.forward("service/prometheus-operated", 9090, MONITORING) as url,
                step("see the requests in Prometheus (two scrapes, 15 s apart)"),
            ):
                rate = _request_rate(service, url)
            say(f"Requests per second to /predict, as Prometheus sees them: {rate:.2f}")
    _report(access, answer, provenance)


def _request_rate(service: str, prometheus: str) -> float:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        predict(service)
        found = promql(prometheus, REQUEST_RATE)
        if found:
            return float(found[0]["value"][1])
        time.sleep(1)
    raise Failure("Prometheus shows no request after 180 s. Open its targets page: is the ServiceMonitor picked up?")


def _report(access: Access, answer: dict[str, Any], provenance: dict[str, Any]) -> None:
    keys = ("name", "version", "alias", "run_id", "sha256", "git_commit", "data_digest")
    origin = "\n".join(f"    {key}: {provenance.get(key)}" for key in keys)
    places = {
        "model": (SERVICE, NAMESPACE, 8000, 80, "/"),
        "MLflow": (f"service/{OBSERVABILITY}-mlflow", MONITORING, 5000, 5000, "/"),
        "Prometheus": ("service/prometheus-operated", MONITORING, 9090, 9090, "/"),
    }
    say(f"\nA pod answered /predict:\n    {json.dumps(answer)[:300]}\nThe model it answered with:\n{origin}")
    say("\nReach them from this machine:")
    say(f"    export KUBECONFIG={access.kubeconfig} PATH={find('kubectl').parent}:$PATH")
    for name, (target, namespace, local, port, path) in places.items():
        command = f"kubectl port-forward -n {namespace} {target} {local}:{port}"
        say(f"    {name + ':':<12}{command:<88} then http://127.0.0.1:{local}{path}")
    example = "curl -s http://127.0.0.1:8000/model | jq .input_example"
    post = "curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d @-"
    say(f"Then predict: {example} | {post}")
    say(f"Logs of the builds: {LOGS}. Remove everything: make down.")
