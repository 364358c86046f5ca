"""The Go programs that the cluster and the tests need: built once into the cache, or taken from PATH if they serve."""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.cache import CACHE, LOGS, ROOT, key_of
from tests.cluster.console import Failure, run, step

KUBERNETES_VERSION = "1.37.2"
HELM_VERSION = "4.3.1"
HELM3_VERSION = "3.22.0"

CLUSTER = ROOT / "tests" / "cluster" / "kubernetes"
TOOLS = ROOT / "tests" / "tools"
PROMTOOL, PROMTOOL_253 = ROOT / "tests" / "promtool", ROOT / "tests" / "promtool253"
KEDA = ROOT / "tests" / "cluster" / "keda"
DASHBOARD_LINTER = ROOT / "tests" / "dashboardlinter"
VERSITYGW = ROOT / "tests" / "cluster" / "versitygw"
COSIGN = ROOT / "tests" / "delivery" / "cosign"
# The names that the one binary of tests/cluster/kubernetes answers to.
ENTRY_POINTS = (
    "coredns", "ct", "etcd", "helm", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler",
    "kubectl", "kubelet", "metrics-server", "storage-provisioner",
)  # fmt: skip
_VERSION = "k8s.io/component-base/version"
# Without these the server calls itself v0.0.0 and charts with a kubeVersion refuse it.
_LDFLAGS = (
    f"-s -w -X {_VERSION}.gitVersion=v{KUBERNETES_VERSION} -X {_VERSION}.gitTreeState=clean"
    f" -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
    f" -X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"
    f" -X helm.sh/helm/v3/internal/version.version=v{HELM3_VERSION}"
    f" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={KUBERNETES_VERSION.split('.')[1]}"
)
KEPT_BUILDS = 3  # other checkouts, and the branch of a minute ago, use the same cache
# Which version of a program found on PATH serves: how it is asked, and what its (major, minor) must be.
_ON_PATH: dict[str, tuple[list[str], Callable[[tuple[int, int]], bool]]] = {
    "helm": (["version", "--short"], lambda version: version >= (3, 19)),
    "kubectl": (["version", "--client"], lambda version: (1, 36) <= version <= (1, 38)),
}


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold a lock on the cache, so that two runs do not build the same thing over each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _manifest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.is_symlink() and path.name != "manifest.json"
    }


def _whole(folder: Path) -> bool:
    """Say whether the folder holds just what was built, byte by byte: a torn cache is built again."""
    try:
        return bool(json.loads((folder / "manifest.json").read_text()) == _manifest(folder))
    except (OSError, ValueError):
        return False


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise Failure(
            "go is not installed, and the embedded cluster is built from Go modules. Install Go 1.26 "
            "(any Go from 1.21 on fetches it by itself), or start Docker and install kind, then run again."
        )
    return go


def _copy_operator_manifests(go: str, folder: Path) -> None:
    """Keep the operator's CustomResourceDefinitions and role, which its own module ships, beside the programs."""
    package = "github.com/prometheus-operator/prometheus-operator"
    module = Path(run([go, "list", "-m", "-f", "{{.Dir}}", package], cwd=CLUSTER).strip())
    manifests = [*(module / "example" / "prometheus-operator-crd").glob("*.yaml")]
    manifests.append(module / "example/rbac/prometheus-operator/prometheus-operator-cluster-role.yaml")
    for manifest in manifests:
        shutil.copyfile(manifest, folder / manifest.name)


@functools.cache  # checking a cached folder reads all of it
def _build(module: Path, packages: tuple[str, ...]) -> Path:
    folder = CACHE / "programs" / f"{module.name}-{key_of([module], _LDFLAGS)}"
    if _whole(folder):
        return folder
    with only_one(module.name):
        if _whole(folder):
            return folder
        go, log, work = _go(), LOGS / f"build-{module.name}.log", folder.with_suffix(".building")
        log.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        remedy = "Check the network, and GOPROXY if modules come through a proxy; then run again."
        with step(f"download the Go modules of {module.name}", log):
            run([go, "mod", "download"], cwd=module, env=env, log=log, timeout_seconds=900, remedy=remedy)
        with step(f"build {module.name} (minutes when nothing is cached)", log):
            # The tag spares promtool the service discoveries of every cloud, whose SDKs are most of its code.
            command = [
                go,
                "build",
                "-v",
                "-trimpath",
                "-tags",
                "remove_all_sd",
                "-ldflags",
                _LDFLAGS,
                "-o",
                f"{work}/",
                *packages,
            ]
            run(
                command,
                cwd=module,
                env=env,
                log=log,
                timeout_seconds=3600,
                remedy="Free memory and disk, run again.",
            )
        if module == CLUSTER:
            _copy_operator_manifests(go, work)
            (work / "helm").rename(work / "helm3")  # `helm` is Helm 4, an entry point of the one binary
            for name in ENTRY_POINTS:
                (work / name).symlink_to(module.name)
        (work / "manifest.json").write_text(json.dumps(_manifest(work)))
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        built = sorted(folder.parent.glob(f"{module.name}-*"), key=lambda path: path.stat().st_mtime)
        for old in built[:-KEPT_BUILDS]:
            shutil.rmtree(old)
    return folder


def cluster_programs() -> Path:
    """Return the folder with Kubernetes, etcd, CoreDNS, Helm 4 and 3, ct, crictl, operator; build it when needed."""
    return _build(CLUSTER, (".", "./pause", "tool"))


def tools() -> Path:
    """Return the folder with what tests/tools/go.mod lists, each under its own name; build it when needed."""
    return _build(TOOLS, ("tool",))


def promtool() -> Path:
    """Return the folder with promtool; build it when needed."""
    return _build(PROMTOOL, ("tool",))


def promtool253() -> Path:
    """Return the folder with promtool of Prometheus 2.53, which has its name as well; build it when needed."""
    return _build(PROMTOOL_253, ("tool",))


def dashboard_linter() -> Path:
    """Return the folder with Grafana's linter of dashboards; build it when needed (minutes)."""
    return _build(DASHBOARD_LINTER, ("tool",))


def keda() -> Path:
    """Return the folder with KEDA's operator and adapter; build it when needed (long)."""
    return _build(KEDA, ("tool",))


def versitygw() -> Path:
    """Return the folder with versitygw, an S3 server; build it when needed (a minute)."""
    return _build(VERSITYGW, ("tool",))


def delivery() -> Path:
    """Return the folder with cosign, syft and a registry; build it when needed (long)."""
    return _build(COSIGN, ("tool",))


def find(name: str) -> Path:
    """Return the program to call: the one on PATH when its version serves, else the built one.

    Args:
        name: `helm`, `kubectl` or any other entry point of the built programs.

    Raises:
        Failure: it must be built and cannot be.
    """
    on_path = shutil.which(name)
    if on_path and name in _ON_PATH:
        arguments, serves = _ON_PATH[name]
        asked = subprocess.run([on_path, *arguments], capture_output=True, text=True, timeout=30, check=False)
        version = re.search(r"v(\d+)\.(\d+)\.\d+(?!\S*dispatcher)", asked.stdout)
        if version and serves((int(version[1]), int(version[2]))):
            return Path(on_path)
    return cluster_programs() / name
