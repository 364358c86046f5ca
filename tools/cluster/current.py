"""A cluster that somebody else made: the current context of kubectl, with a registry that it can pull from.

Everything is installed in namespaces that carry a label, and only these are removed.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.cluster.access import Access
from tools.cluster.cache import CACHE
from tools.cluster.console import Failure, run, step
from tools.cluster.images import REGISTRY
from tools.cluster.main_job import MONITORING, NAMESPACE
from tools.cluster.programs import find

STATE = CACHE / "current"
KUBECONFIG = STATE / "admin.conf"
LABEL = "app.kubernetes.io/managed-by=model-service-make"
OLDEST = (1, 30)
CLUSTER_WIDE = "crd,clusterrole,clusterrolebinding,service"
SYSTEM = "kube-system"  # the operator creates a Service for the kubelets there


def check() -> None:
    """Refuse before anything is built.

    Raises:
        Failure: REGISTRY is missing, the cluster does not answer or is too old, or a namespace exists and is not ours.
    """
    if not REGISTRY:
        raise Failure(
            "CLUSTER=current needs a registry that the cluster can pull from and this machine can push to: "
            "make up CLUSTER=current REGISTRY=ghcr.io/<you>"
        )
    STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    context = run([find("kubectl"), "config", "view", "--minify", "--flatten", "--raw"])
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(context)
    access = Access(KUBECONFIG)
    with step("check the cluster of the current context"):
        _check_version(access)
        for name in (MONITORING, NAMESPACE):
            _exists(access, name)


def start() -> Path:
    """Create our namespaces, and return a kubeconfig of the current context."""
    access = Access(KUBECONFIG)
    for name in (MONITORING, NAMESPACE):
        if not _exists(access, name):
            access.kubectl("create", "namespace", name)
            access.kubectl("label", "namespace", name, LABEL)
    return KUBECONFIG


def _check_version(access: Access) -> None:
    try:
        version = json.loads(access.kubectl("version", "--output=json", "--request-timeout=10s"))["serverVersion"]
    except (Failure, KeyError) as error:
        raise Failure(f"The cluster of kubectl's current context does not answer.\n{error}") from error
    found = int(version["major"]), int(version["minor"].rstrip("+"))
    if found < OLDEST:
        raise Failure(f"The cluster runs Kubernetes {found[0]}.{found[1]}; the charts need 1.{OLDEST[1]} or newer.")


def _exists(access: Access, name: str) -> bool:
    """Return whether our namespace of this name exists; refuse one of somebody else."""
    known = access.get("namespace", name, name)
    if known and not _ours(known):
        raise Failure(
            f"The cluster already has a namespace {name}, which make up did not create. Use another cluster, or "
            f"hand it over: kubectl label namespace {name} {LABEL}; make down then deletes it."
        )
    return bool(known)


def _ours(found: Any) -> bool:
    """Return whether an object has our label."""
    name, value = LABEL.split("=")
    return bool(found["metadata"].get("labels", {}).get(name) == value)


def runs_operator(access: Access) -> bool:
    """Return whether somebody else's Prometheus Operator runs, with which a second one would conflict."""
    crd = access.get("crd", "prometheuses.monitoring.coreos.com", SYSTEM)
    return bool(crd) and not _ours(crd)


@contextmanager
def labelling(access: Access) -> Iterator[None]:
    """Label the objects outside our namespaces that the body creates, so that `stop` removes them."""
    before = _outside(access)
    try:
        yield
    finally:
        for made in sorted(_outside(access) - before):
            access.kubectl("label", made, LABEL, f"--namespace={SYSTEM}", "--overwrite")


def _outside(access: Access) -> set[str]:
    return set(access.kubectl("get", CLUSTER_WIDE, f"--namespace={SYSTEM}", "--output=name").split())


def status() -> str:
    """Return the nodes."""
    return Access(KUBECONFIG).kubectl("get", "nodes", "--output=wide")


def stop() -> None:
    """Remove what `start` and the main job installed: releases, namespaces and cluster-wide objects with our label."""
    if not KUBECONFIG.exists():
        return
    access = Access(KUBECONFIG)
    names = access.kubectl("get", "namespaces", f"--selector={LABEL}", "--output=name").split()
    for namespace in (name.partition("/")[2] for name in names):
        for release in access.helm("list", "--all", "--namespace", namespace, "--short").split():
            access.helm("uninstall", release, "--namespace", namespace, "--wait", "--timeout=3m")
        access.kubectl("delete", "namespace", namespace, "--timeout=300s")
    access.kubectl("delete", CLUSTER_WIDE, f"--selector={LABEL}", f"--namespace={SYSTEM}", "--ignore-not-found")
    shutil.rmtree(STATE)
