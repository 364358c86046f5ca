"""Programs in pods of their own."""

from uuid import uuid4

from tools.cluster.access import Access
from tools.cluster.console import wait_for


def printed_by(access: Access, namespace: str, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """Run a program in a new pod to its end, and return what it printed.

    `kubectl run --rm --stdin` loses the output of a program that ends before kubectl has attached.

    Args:
        access: Cluster.
        namespace: Namespace of the pod.
        image: Image of the pod.
        command: Program and its arguments.
        options: Further options of `kubectl run`.
    """
    pod = f"program-{uuid4().hex[:8]}"
    here = [pod, f"--namespace={namespace}"]
    access.kubectl("run", *here, f"--image={image}", "--restart=Never", *options, "--command", "--", *command)
    try:
        ended = lambda: _phase(access, pod, namespace) in ("Succeeded", "Failed")  # noqa: E731
        wait_for(f"the end of {command[0]}", ended, timeout_seconds=600, remedy="See kubectl describe pod.")
        printed = access.kubectl("logs", *here)
        assert _phase(access, pod, namespace) == "Succeeded", printed
        return printed
    finally:
        access.kubectl("delete", "pod", *here, "--wait=false")


def _phase(access: Access, pod: str, namespace: str) -> str:
    return str(access.get("pod", pod, namespace)["status"]["phase"])
