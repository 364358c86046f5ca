"""A namespace with releases of the chart that train and score, for the tests of its jobs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tests.cluster.access import Access
from tests.cluster.cache import ROOT
from tests.cluster.console import wait_for
from tests.cluster.images import APP, TRAINING
from tests.cluster.main_job import TRACKING_URI, image_values

CHART = str(ROOT / "charts" / "model-service")
SMALL = ["--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false", "--set=resources.requests.cpu=50m"]
IMAGES = [*image_values(APP), *image_values(TRAINING, "training.image")]


def trains(model: str) -> list[str]:
    """Return the flags of a release that trains the model that it serves."""
    return [
        f"--set-string=model.uri=models:/{model}@champion",
        f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=training.enabled=true",
        "--set=training.resources.requests.cpu=100m",
        "--set=training.verify.maxP99Milliseconds=2000",  # others use the machine
    ]


@dataclass(frozen=True)
class Jobs:
    """The Jobs of a namespace."""

    access: Access
    namespace: str

    def release(self, name: str, *values: str, wait: bool = True) -> None:
        """Install or upgrade a release of the chart."""
        more = ["--wait", "--timeout=8m"] if wait else []
        command = ["upgrade", "--install", name, CHART, "--namespace", self.namespace]
        self.access.helm(*command, *IMAGES, *SMALL, *values, *more)

    def apply(self, kind: str, name: str, **content: Any) -> None:
        """Make an object, or change it."""
        metadata = {"name": name, "namespace": self.namespace}
        version = "batch/v1" if kind == "Job" else "v1"
        made = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        self.access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))

    def claim(self, name: str) -> None:
        """Make a claim of a volume."""
        self.apply(
            "PersistentVolumeClaim",
            name,
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        )

    def of(self, name: str, kind: str) -> list[Any]:
        """Return the Jobs of a release, `train` or `score`, the oldest first."""
        found = self.access.get_all("job", f"app.kubernetes.io/instance={name}", self.namespace)
        found = [job for job in found if f"-{kind}-" in job["metadata"]["name"]]
        return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))

    def ended(self, name: str, kind: str, timeout_seconds: int = 420) -> Any:
        """Wait until the release's only Job of a kind has ended; return it."""

        def over() -> bool:
            found = self.of(name, kind)
            return len(found) == 1 and bool(conditions(found[0]) & {"Complete", "Failed"})

        wait_for(f"the end of the {kind} Job of {name}", over, timeout_seconds=timeout_seconds, remedy="See its logs.")
        return self.of(name, kind)[0]

    def pods(self, job: Any) -> list[Any]:
        """Return the pods of a Job."""
        return self.access.get_all("pod", f"batch.kubernetes.io/job-name={job['metadata']['name']}", self.namespace)

    def log(self, pod: str, container: str) -> str:
        """Return what a container has said."""
        return self.access.kubectl("logs", pod, f"--container={container}", "--namespace", self.namespace)

    def printed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Run a pod to its successful end; return the JSON of its last line."""
        self.apply("Pod", "look", spec=spec | {"restartPolicy": "Never"})
        try:
            succeeded = "--for=jsonpath={.status.phase}=Succeeded"
            self.access.kubectl("wait", "pod/look", "--namespace", self.namespace, succeeded, "--timeout=120s")
            (container,) = spec["containers"]
            answer: dict[str, Any] = json.loads(self.log("look", container["name"]).strip().splitlines()[-1])
            return answer
        finally:
            self.access.kubectl("delete", "pod", "look", "--namespace", self.namespace, "--wait=true")


def conditions(job: Any) -> set[str]:
    """Return the conditions of a Job that are true."""
    return {each["type"] for each in job["status"].get("conditions", []) if each["status"] == "True"}


@contextmanager
def namespace(access: Access, cluster: ModuleType, name: str) -> Iterator[Jobs]:
    """Make a namespace, and bring the images to the node; take the namespace away again."""
    for image in (APP, TRAINING):
        cluster.build(image)
        cluster.load(image)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    try:
        yield Jobs(access, name)
    finally:
        access.kubectl("delete", "namespace", name, "--wait=true", "--timeout=180s")
