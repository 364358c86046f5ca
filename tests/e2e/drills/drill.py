"""A drill: a fault while a release is under load, what its clients see, and the alerts that report it."""

import json
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

from tests.e2e.traffic import Counted, under_load
from tools.charts import MODEL_SERVICE
from tools.cluster import engine
from tools.cluster.access import Access, promql
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, MONITORING, TRACKING_URI, image_values, install
from tools.drills import RESULTS

NAMESPACE = "drills"  # their series must not appear among those of the models
RELEASE = f"drills-{time.time():.0f}"  # new in each session: failures of an earlier one would burn its error budget
FULLNAME = f"{RELEASE}-model-service"
SELECTOR = f"app.kubernetes.io/instance={RELEASE}"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
JOB = f'namespace="{NAMESPACE}",job="{FULLNAME}"'
LEAST = 5_000  # requests in a drill
# Promises of several drills
NOTHING = "no request fails"
UNTIL_IT_LEFT = "requests on that pod fail until it has left the Service, at most 10 s"


@dataclass
class Record:
    """The result of a drill, as docs/reference/reliability.json contains it."""

    name: str
    fault: str
    promise: str
    requests: int = 0
    failures: int = 0
    refused: int = 0
    failing_seconds: float = 0
    slowest_seconds: float = 0
    alerts: list[str] = field(default_factory=list)


def install_release(access: Access, *values: str, timeout: str = "10m") -> None:
    """Install or upgrade the release of the drills: two pods with the chart's defaults, watched by Prometheus."""
    install(
        access, RELEASE, MODEL_SERVICE, NAMESPACE, *image_values(APP),
        f"--set-string=model.uri=models:/{MODEL}@{ALIAS}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=resources.requests.cpu=50m",
        "--set=monitoring.serviceMonitor.enabled=true", "--set=monitoring.prometheusRule.enabled=true", *values,
        timeout=timeout,
    )  # fmt: skip


def wait_until_complete(access: Access, replicas: int = 2) -> None:
    """Wait until the release has its pods, all ready, and no other."""
    access.kubectl("rollout", "status", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--timeout=300s")
    wait_for("the pods", lambda: len(pods(access)) == replicas, timeout_seconds=300, remedy="")


def scale(access: Access, replicas: int) -> None:
    """Change the number of pods, and do not wait."""
    access.kubectl("scale", f"deployment/{FULLNAME}", f"--replicas={replicas}", f"--namespace={NAMESPACE}")


def pods(access: Access) -> list[str]:
    """Return the names of the pods of the service, also of those that are shutting down."""
    return [pod["metadata"]["name"] for pod in access.get_all("pod", SELECTOR, NAMESPACE)]


def on_node(access: Access, pod: str, script: str) -> None:
    """Run a shell script on the node of a pod. $PROCESSES are the processes of the pod's first container."""
    found = access.get("pod", pod, NAMESPACE)
    container = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    processes = f"PROCESSES=$(grep -l {container} /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3)"
    engine.docker("exec", found["spec"]["nodeName"], "sh", "-c", f"{processes}; {script}")


def kill(access: Access, pod: str) -> None:
    """End every process of a pod's first container as the kernel does, without a chance to finish."""
    on_node(access, pod, "kill -9 $PROCESSES")


@contextmanager
def drill(
    access: Access,
    name: str,
    *,
    fault: str,
    promise: str,
    alerts: Sequence[str] = (),
    clients: int = 8,
    rate: float = 25,
    node: str = "",
    host: str = FULLNAME,
    key: str = "",
    ends: bool = True,
) -> Iterator[Counted]:
    """Put the release under load during the body, and record what the clients saw.

    Args:
        access: Cluster.
        name: Name of the drill.
        fault: What the body does, as a phrase for the table.
        promise: What clients may see, as a phrase for the table.
        alerts: Alerts that the body waits for with `wait_for_alerts`. Any other alert of the release that fires fails
            the drill, and so does one of these that has not ended 20 minutes after the body.
        clients: Number of clients.
        rate: Requests per second of each client; 0 sends without pauses.
        node: Node of the clients; "" lets Kubernetes choose.
        host: Host that the clients call.
        key: API key of the clients.
        ends: Whether the alerts must end soon. Those of a spent error budget last for hours.
    """
    started = time.time()
    place = {"namespace": NAMESPACE, "host": host, "node": node, "key": key}
    with under_load(access, clients, rate, LEAST, **place, rows=_rows()) as counted:
        yield counted
    fired = raised_alerts(access, since=started, state="firing")
    seen = {key: value for key, value in asdict(counted).items() if key in Record.__dataclass_fields__}
    record = Record(name, fault, promise, **seen, alerts=sorted({*alerts, *fired}))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(record), indent=2) + "\n")
    print(record, counted.reasons)
    assert counted.requests >= LEAST, counted
    assert fired <= set(alerts), f"{fired} instead of {set(alerts)}: {counted}"
    if ends:
        wait_until_quiet(access)


def _rows() -> dict[str, Any]:
    """Return the rows that the model was trained on: one row again and again is drift."""
    found = load_breast_cancer()
    mixed = np.random.default_rng(0).permutation(found.data)
    return {"columns": [str(name) for name in found.feature_names], "data": mixed.tolist()}


def ask_prometheus(access: Access, query: str) -> list[dict[str, Any]]:
    """Return the series that a query selects."""
    with access.forward("service/prometheus-operated", 9090, MONITORING) as prometheus:
        return promql(prometheus, query)


def raised_alerts(access: Access, since: float, state: str = "pending|firing") -> set[str]:
    """Return the names of the release's alerts that were in a state since a time, in seconds of the epoch."""
    window = max(90, round(time.time() - since))  # rules are evaluated every 30 s
    found = ask_prometheus(
        access, f'count by (alertname) (last_over_time(ALERTS{{{JOB},alertstate=~"{state}"}}[{window}s]))'
    )
    return {series["metric"]["alertname"] for series in found}


def wait_for_alerts(access: Access, *names: str) -> None:
    """Wait until alerts of the release are pending or firing."""
    since = time.time()
    wait_for(
        f"the alerts {', '.join(names)}",
        lambda: set(names) <= raised_alerts(access, since),
        timeout_seconds=300,
        remedy="See the rules page of Prometheus.",
    )


def wait_until_quiet(access: Access) -> None:
    """Wait until Prometheus watches the release and no alert of it is pending or firing."""
    watched = f"count(up{{{JOB}}} == 1) and on () job:slo_availability:ratio{{{JOB}}}"
    wait_for(
        "the end of the alerts",
        lambda: ask_prometheus(access, watched) and not raised_alerts(access, since=time.time()),
        timeout_seconds=1200,
        remedy="See the rules page of Prometheus.",
    )


def look_at(access: Access, alert: str) -> str:
    """Run the commands that the alert's runbook has for the engineer on call, and return what they print."""
    section = RUNBOOKS.read_text().partition(f"\n## {alert}\n")[2].partition("\n**Do**")[0]
    commands = re.findall(r"`kubectl ([^`]+)`", section)
    assert commands, f"the runbook of {alert} has no command"
    (found, *_) = ask_prometheus(access, f'ALERTS{{{JOB},alertname="{alert}"}}')
    names = {"$NS": NAMESPACE, "$RELEASE": RELEASE, "$JOB": FULLNAME, "<pod>": found["metric"].get("pod", "")}
    words = [[names.get(word, word) for word in shlex.split(command)] for command in commands]
    return "\n".join(access.kubectl(*command) for command in words)
