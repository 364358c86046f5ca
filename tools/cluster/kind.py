"""The kind cluster: a control plane and two workers on the Docker engine that answers, or on our own."""

import json
import os
import platform
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tools.cluster import engine, node_image, registry
from tools.cluster.access import Access
from tools.cluster.cache import CACHE
from tools.cluster.console import Failure, run, step, wait_for
from tools.cluster.programs import NODE_PROGRAMS, find

NAME = "model-service"
STATE = CACHE / "kind"
KUBECONFIG = STATE / "admin.conf"
CONFIG = Path(__file__).parent / "kind.yaml"
METRICS_SERVER = Path(__file__).parent / "manifests" / "metrics-server.yaml"
_NODES = 3


def kind(*arguments: object, log: Path | None = None, remedy: str = "") -> str:
    """Run kind against the engine and return what it printed."""
    return run([find("kind"), *arguments], env=engine.environment(), log=log, remedy=remedy)


def check() -> None:
    """Refuse a wrong NODES or an engine that kind cannot use, before anything is built."""
    configuration()
    engine.check()


def prepare() -> None:
    """Start the engine and make the root of the node image, which can be done while its programs are built."""
    engine.start()
    node_image.root_image()


def start() -> Path:
    """Create the cluster if it does not exist, repair it if it is incomplete, and return its kubeconfig."""
    engine.start()
    STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = configuration()
    known = kind("get", "nodes", "--name", NAME).split()
    if known and (fault := _fault(known, wanted)):
        with step(f"remove the kind cluster, which {fault}"):
            kind("delete", "cluster", "--name", NAME)
        known = []
    if not known:
        _create(wanted)
    kind("export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG, remedy="Run make down, then make up.")
    nodes = kind("get", "nodes", "--name", NAME).split()
    if not engine.ours():
        _copy_kubectl(nodes[0])
    registry.start(nodes)
    _use_local_volumes(Access(KUBECONFIG))
    _install_metrics_server(Access(KUBECONFIG))
    return KUBECONFIG


def _fault(nodes: list[str], wanted: dict[str, Any]) -> str:
    """Return why a cluster cannot be used as it is ("" if it can); start the nodes that do not run."""
    if len(nodes) != len(wanted["nodes"]):  # a run that was killed, or a different NODES
        return f"has {len(nodes)} of {len(wanted['nodes'])} nodes"
    image = os.environ.get("KIND_NODE_IMAGE")
    if image and image != engine.docker("inspect", "--format", "{{.Config.Image}}", nodes[0]).strip():
        return "has a different node image than KIND_NODE_IMAGE"
    return "" if _running(nodes) else "is incomplete or did not start again"


def _running(nodes: list[str]) -> bool:
    """Start the nodes that do not run, and return whether the API server knows all nodes at their addresses then.

    An engine that was killed may give the nodes each other's addresses when it starts them again: then the API server
    does not answer, or pods do not reach each other. After a creation that failed, the API server refuses the
    administrator or lacks a node.
    """
    stopped = [node for node in nodes if node not in engine.docker("ps", "--format", "{{.Names}}").split()]
    access = Access(KUBECONFIG)
    try:
        if stopped:
            with step(f"start the nodes {' '.join(stopped)}"):
                engine.docker("start", *stopped)
        kind("export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG)
        wait_for("the API server", lambda: _joined(access, nodes), timeout_seconds=90, remedy="")
        if stopped:
            ready = ("wait", "node", "--all", "--for=condition=Ready", "--timeout=5s")
            wait_for("the nodes", partial(access.kubectl, *ready), timeout_seconds=120, remedy="")
    except Failure:
        return False
    return True


def _joined(access: Access, nodes: list[str]) -> bool:
    """Return whether the API server knows each node at an address that its container has."""
    known = json.loads(access.kubectl("get", "nodes", "--output=json"))["items"]
    addresses = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
    has = {node: engine.docker("inspect", "--format", addresses, node).split() for node in nodes}
    given = {
        node["metadata"]["name"]: [
            each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"
        ]
        for node in known
    }
    return has.keys() == given.keys() and all(set(given[node]) <= set(has[node]) for node in nodes)


def configuration() -> dict[str, Any]:
    """Return the configuration of the cluster that NODES and IP_FAMILY ask for.

    Raises:
        Failure: One of them is invalid.
    """
    try:
        count = int(os.environ.get("NODES") or _NODES)
    except ValueError:
        count = 0
    if not 1 <= count <= 9:
        raise Failure(f"NODES={os.environ['NODES']} is not a number of nodes. Set it to 1 to 9, or unset it.")
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    family = os.environ.get("IP_FAMILY") or "ipv4"
    if family not in ("ipv4", "ipv6", "dual"):
        raise Failure(f"IP_FAMILY={family} is not a family of addresses. Set it to ipv4, ipv6 or dual, or unset it.")
    if family != "ipv4" and engine.ours():
        raise Failure(f"IP_FAMILY={family} needs a Docker engine of yours; the one of make up has no IPv6. Unset it.")
    if family != "ipv4":  # the ranges in the file are IPv4, so kind chooses its own
        config["networking"] = {"ipFamily": family}
    config["nodes"] = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(count - 1))]
    return config


def _create(config: dict[str, Any]) -> None:
    image = os.environ.get("KIND_NODE_IMAGE") or (node_image.build() if engine.ours() else "")
    log = STATE / "create.log"
    with step(f"create the kind cluster with {len(config['nodes'])} nodes", log), tempfile.TemporaryDirectory() as work:
        written = Path(work) / "kind.yaml"
        written.write_text(yaml.safe_dump(config))
        command = ["create", "cluster", "--name", NAME, "--config", written, "--wait", "180s", "--retain"]
        kind(*command, *(["--image", image] if image else []), "--kubeconfig", KUBECONFIG, log=log)


def _copy_kubectl(node: str) -> None:
    """Copy kubectl from a node, so that it has the version of the cluster and needs no build."""
    target = NODE_PROGRAMS / "kubectl"
    if platform.system() == "Linux" and not target.exists():
        NODE_PROGRAMS.mkdir(parents=True, exist_ok=True)
        engine.docker("cp", f"{node}:/usr/bin/kubectl", target)


def _use_local_volumes(access: Access) -> None:
    """Let the default StorageClass create `local` volumes; the kubelet measures no hostPath volumes, kind's default."""
    access.kubectl("annotate", "storageclass", "standard", "defaultVolumeType=local", "--overwrite")


def _install_metrics_server(access: Access) -> None:
    with step("install metrics-server"):
        access.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(METRICS_SERVER))
        access.kubectl("rollout", "status", "deployment/metrics-server", "--namespace=kube-system", "--timeout=300s")


def status() -> str:
    """Return the nodes' containers as Docker shows them."""
    return engine.docker("ps", "--all", "--filter", f"label=io.x-k8s.kind.cluster={NAME}")


def stop() -> None:
    """Delete the cluster, its registry and our own engine."""
    if STATE.exists() and (not engine.ours() or engine.running()):
        kind("delete", "cluster", "--name", NAME)
        registry.stop()
    engine.stop()
    shutil.rmtree(STATE, ignore_errors=True)
