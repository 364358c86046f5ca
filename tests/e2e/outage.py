"""Something that the pods depend on does not run for a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.cluster.access import Access


@contextmanager
def without(access: Access, deployment: str, namespace: str) -> Iterator[None]:
    """Stop a Deployment within the block, which begins when its last pod has ended."""
    place = [f"deployment/{deployment}", f"--namespace={namespace}"]
    spec = access.get("deployment", deployment, namespace)["spec"]
    labels = ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())
    access.kubectl("scale", *place, "--replicas=0")
    try:
        ended = ["--for=delete", f"--selector={labels}", f"--namespace={namespace}", "--timeout=300s"]
        access.kubectl("wait", "pod", *ended)
        yield
    finally:
        access.kubectl("scale", *place, f"--replicas={spec['replicas']}")
        access.kubectl("rollout", "status", *place, "--timeout=300s")
