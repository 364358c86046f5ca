"""Load on a release during a test."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.logs import result
from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import NAMESPACE, RELEASE

FULLNAME = f"{RELEASE}-model-service"
SCRIPT = Path(__file__).parent / "load.py"
END = "import os, signal; os.kill(1, signal.SIGTERM)"


@dataclass
class Counted:
    """What the clients saw; complete after the load.

    Attributes:
        requests: Number of requests.
        refused: Those with a 429 or a 503 that says when to try again.
        failures: Those without a response, or with a status that is not 200.
        reasons: Of the first failures.
        failing_seconds: From the first failure to the last one.
        slowest_seconds: Longest time to a response.
        per_second: Requests per second.
    """

    requests: int = 0
    refused: int = 0
    failures: int = 0
    reasons: list[str] = field(default_factory=list)
    failing_seconds: float = 0
    slowest_seconds: float = 0
    per_second: float = 0


@contextmanager
def under_load(
    access: Access,
    clients: int = 4,
    rate: float = 50,
    least: int = 500,
    *,
    namespace: str = NAMESPACE,
    host: str = FULLNAME,
    image: str = APP.reference,
    node: str = "",
    key: str = "",
    rows: Mapping[str, Any] | None = None,
) -> Iterator[Counted]:
    """Send requests from a pod during the body, and after it until there were enough.

    Args:
        access: Cluster.
        clients: Number of clients.
        rate: Requests per second of each client; 0 sends without pauses.
        least: Least number of requests in all.
        namespace: Namespace of the pod.
        host: Host of the service.
        image: Image with Python.
        node: Node of the pod; "" lets Kubernetes choose.
        key: API key of the clients.
        rows: Rows to send in turn, as `columns` and `data`, of at most 1 MiB as JSON; None sends the input example.
    """
    metadata = {"name": "load", "namespace": namespace}
    files = {SCRIPT.name: SCRIPT.read_text(), "rows.json": json.dumps(rows)}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}
    command = ["python3", f"/load/{SCRIPT.name}", host, str(clients), str(rate), str(least)]
    container = {
        "name": "load",
        "image": image,
        "command": [*command, *(["/load/rows.json"] if rows else [])],
        "env": [{"name": "KEY", "value": key}],
        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "load", "configMap": {"name": "load"}}],
    } | ({"nodeName": node} if node else {})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    there = ["load", f"--namespace={namespace}"]
    counted = Counted()
    access.kubectl("delete", "pod", *there, "--ignore-not-found")
    for each in (config, pod):
        access.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(each))
    try:
        begun = lambda: "has begun" in access.kubectl("logs", *there)  # noqa: E731
        wait_for("the load", begun, timeout_seconds=300, remedy="See kubectl describe pod load.")
        yield counted
        access.kubectl("exec", *there, "--", "python3", "-c", END)
        access.kubectl("wait", "pod", *there, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
        counted.__dict__.update(result(access.kubectl("logs", *there)))
    finally:
        access.kubectl("delete", "pod", *there, "--wait=false")
