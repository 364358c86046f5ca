"""The cluster where a Docker engine answers: kind, with metrics-server added."""

import shutil
from pathlib import Path

from tests.cluster.cache import CACHE
from tests.cluster.console import Failure, run, step
from tests.cluster.images import PRODUCTS, Image, build_with_docker
from tests.cluster.programs import find

NAME = "model-service"
STATE = CACHE / "kind"
KUBECONFIG = STATE / "admin.conf"
CONFIG = Path(__file__).parent / "kind.yaml"
METRICS_SERVER = "https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/components.yaml"
# kind's kubelets have self-signed serving certificates.
INSECURE = '[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--kubelet-insecure-tls"}]'
IMAGES = PRODUCTS


def start() -> Path:
    """Create the cluster unless it is there, and return its kubeconfig."""
    if shutil.which("kind") is None:
        raise Failure(
            "A Docker engine answers but kind is not installed. Run `go install sigs.k8s.io/kind@v0.31.0`, "
            "or set CLUSTER=embedded to use the embedded cluster (root only)."
        )
    STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    if NAME not in run(["kind", "get", "clusters"]).split():
        with step("create the kind cluster", STATE / "create.log"):
            command = ["kind", "create", "cluster", "--name", NAME, "--config", CONFIG, "--wait", "180s"]
            run([*command, "--kubeconfig", KUBECONFIG], log=STATE / "create.log")
    run(["kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG])
    kubectl = [find("kubectl"), "--kubeconfig", KUBECONFIG]
    if not run([*kubectl, "get", "apiservice", "v1beta1.metrics.k8s.io", "--ignore-not-found"]):
        with step("install metrics-server"):
            run([*kubectl, "apply", "-f", METRICS_SERVER], remedy="Check the network.")
            patch = [
                "patch",
                "deployment",
                "metrics-server",
                "-n",
                "kube-system",
                "--type=json",
                "-p",
                INSECURE,
            ]
            run([*kubectl, *patch])
    return KUBECONFIG


def build(image: Image) -> None:
    """Build an image with the Docker engine; its own cache makes an unchanged one quick."""
    build_with_docker(image)


def load(image: Image) -> None:
    """Bring a built image to the node; kind skips one that is there."""
    with step(f"load image {image.name}"):
        run(["kind", "load", "docker-image", "--name", NAME, image.reference])


def status() -> str:
    """Return the node's containers as Docker sees them."""
    return run(["docker", "ps", "--all", "--filter", f"label=io.x-k8s.kind.cluster={NAME}"])


def stop() -> None:
    """Delete the cluster."""
    if shutil.which("kind") and STATE.exists():
        run(["kind", "delete", "cluster", "--name", NAME])
        shutil.rmtree(STATE)
