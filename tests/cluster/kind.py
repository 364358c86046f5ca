"""The cluster where a Docker engine answers: kind, with metrics-server added."""

import json
import os
import shutil
from pathlib import Path

import yaml

from tests.cluster.cache import CACHE
from tests.cluster.console import Failure, run, step
from tests.cluster.images import Image, build_with_docker
from tests.cluster.programs import find

NAME = "model-service"
STATE = CACHE / "kind"
KUBECONFIG = STATE / "admin.conf"
CONFIG = Path(__file__).parent / "kind.yaml"
METRICS_SERVER = "https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/components.yaml"
# kind's kubelets have self-signed serving certificates.
FLAG = "--kubelet-insecure-tls"
PATCH = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": FLAG}]


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
            if os.environ.get("KIND_NODE_IMAGE"):  # another Kubernetes than that of the installed kind
                command += ["--image", os.environ["KIND_NODE_IMAGE"]]
            run([*command, "--kubeconfig", KUBECONFIG], log=STATE / "create.log")
    again = "Run make down, then make up."
    nodes, wanted = run(["kind", "get", "nodes", "--name", NAME]).split(), yaml.safe_load(CONFIG.read_text())["nodes"]
    if len(nodes) != len(wanted):
        raise Failure(f"The kind cluster {NAME} has {len(nodes)} nodes instead of {len(wanted)}. {again}")
    run(["kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG], remedy=again)
    _install_metrics_server()
    return KUBECONFIG


def _install_metrics_server() -> None:
    """Install metrics-server unless it is there as it must be, and wait until it has asked every kubelet."""
    kubectl = [find("kubectl"), "--kubeconfig", KUBECONFIG]
    deployment = ["deployment", "metrics-server", "--namespace=kube-system"]
    with step("install metrics-server"):
        # Not there, or left without its flag by a run that was killed in between.
        if FLAG not in run([*kubectl, "get", *deployment, "--ignore-not-found", "--output=jsonpath={..args}"]):
            run([*kubectl, "apply", "-f", METRICS_SERVER], remedy="Check the network.")
            run([*kubectl, "patch", *deployment, "--type=json", "-p", json.dumps(PATCH)])
        run([*kubectl, "rollout", "status", *deployment, "--timeout=180s"])


def build(image: Image) -> None:
    """Build an image with the Docker engine; its own cache makes an unchanged one quick."""
    build_with_docker(image)


def load(image: Image) -> None:
    """Bring a built image to every node; kind skips those that have it."""
    with step(f"load image {image.name}"):
        run(["kind", "load", "docker-image", "--name", NAME, image.reference])


def status() -> str:
    """Return the nodes' containers as Docker sees them."""
    return run(["docker", "ps", "--all", "--filter", f"label=io.x-k8s.kind.cluster={NAME}"])


def stop() -> None:
    """Delete the cluster."""
    if shutil.which("kind") and STATE.exists():
        run(["kind", "delete", "cluster", "--name", NAME])
        shutil.rmtree(STATE)
