"""Helpers for tests of the chart's training and scoring Jobs in their own namespace."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.e2e.logs import result
from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.images import APP, TRAINING
from tools.cluster.main_job import TRACKING_URI, image_values
from tools.cluster.registry import push

CHART = str(ROOT / "charts" / "model-service")
SMALL = ["--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false", "--set=resources.requests.cpu=50m"]
RERUN = uuid4().hex  # MLflow keeps the versions of earlier runs of these tests
IMAGES = [*image_values(APP), *image_values(TRAINING, "jobs.image")]


def trains(model: str) -> list[str]:
    """Return Helm flags for a release that trains the model it serves."""
    return [
        f"--set-string=model.uri=models:/{model}@champion",
        f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=training.enabled=true",
        "--set=training.resources.requests.cpu=100m",
        "--set=training.verify.maxP99Milliseconds=2000",  # the machine may be busy
        f"--set-string=training.rerun={RERUN}",
    ]


@dataclass(frozen=True)
class Jobs:
    """The Jobs of a namespace."""

    access: Access
    namespace: str

    def release(self, name: str, *values: str, wait: bool = True) -> None:
        """Install or upgrade a release of the chart."""
        more = ["--wait", "--timeout=10m"] if wait else []
        command = ["upgrade", "--install", name, CHART, "--namespace", self.namespace]
        self.access.helm(*command, *IMAGES, *SMALL, *values, *more)

    def apply(self, kind: str, name: str, **content: Any) -> None:
        """Create or change an object."""
        metadata = {"name": name, "namespace": self.namespace}
        version = "batch/v1" if kind == "Job" else "v1"
        made = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        self.access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))

    def claim(self, name: str) -> None:
        """Create a PersistentVolumeClaim."""
        self.apply(
            "PersistentVolumeClaim",
            name,
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        )

    def of(self, name: str, kind: str) -> list[Any]:
        """Return the `train` or `score` Jobs of a release, oldest first."""
        found = self.access.get_all("job", f"app.kubernetes.io/instance={name}", self.namespace)
        found = [job for job in found if f"-{kind}-" in job["metadata"]["name"]]
        return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))

    def ended(self, name: str, kind: str, timeout_seconds: int = 900) -> Any:
        """Wait until the only Job of a kind has ended, and return it."""

        def over() -> bool:
            found = self.of(name, kind)
            return len(found) == 1 and bool(conditions(found[0]) & {"Complete", "Failed"})

        wait_for(f"the end of the {kind} Job of {name}", over, timeout_seconds=timeout_seconds, remedy="See its logs.")
        return self.of(name, kind)[0]

    def pods(self, job: Any) -> list[Any]:
        """Return the pods of a Job."""
        return self.access.get_all("pod", f"batch.kubernetes.io/job-name={job['metadata']['name']}", self.namespace)

    def log(self, pod: str, container: str) -> str:
        """Return the log of a container."""
        return self.access.kubectl("logs", pod, f"--container={container}", "--namespace", self.namespace)

    def printed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Run a pod until it succeeds, and return the JSON in its last line of output."""
        self.apply("Pod", "look", spec=spec | {"restartPolicy": "Never"})
        try:
            succeeded = "--for=jsonpath={.status.phase}=Succeeded"
            self.access.kubectl("wait", "pod/look", "--namespace", self.namespace, succeeded, "--timeout=300s")
            (container,) = spec["containers"]
            answer = result(self.log("look", container["name"]))
            return answer
        finally:
            self.access.kubectl("delete", "pod", "look", "--namespace", self.namespace, "--wait=true")


def conditions(job: Any) -> set[str]:
    """Return the types of the true conditions of a Job."""
    return {each["type"] for each in job["status"].get("conditions", []) if each["status"] == "True"}


@contextmanager
def namespace(access: Access, name: str) -> Iterator[Jobs]:
    """Create a namespace with the images loaded, and delete it at the end."""
    for image in (APP, TRAINING):
        push(image)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    try:
        yield Jobs(access, name)
    finally:
        access.kubectl("delete", "namespace", name, "--wait=true", "--timeout=300s")
