"""The Go programs that the cluster and the tests need: built once into the cache, or taken from PATH if they serve."""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from tools.cluster.cache import CACHE, LOGS, ROOT, key_of
from tools.cluster.console import Failure, run, step

KUBERNETES_VERSION = "1.37.2"
HELM_VERSION = "4.3.1"
HELM3_VERSION = "3.22.0"

CLUSTER = ROOT / "tools" / "cluster" / "kubernetes"
TOOLS = ROOT / "tools" / "lint" / "programs"
PROMTOOL, PROMTOOL_253 = ROOT / "tools" / "lint" / "promtool", ROOT / "tools" / "lint" / "promtool253"
KEDA = ROOT / "tools" / "cluster" / "keda"
CYCLONUS = ROOT / "tools" / "lint" / "cyclonus"
VALE = ROOT / "tools" / "lint" / "vale"
ACT = ROOT / "tools" / "lint" / "act"
DASHBOARD_LINTER = ROOT / "tools" / "lint" / "dashboardlinter"
VERSITYGW = ROOT / "tools" / "cluster" / "versitygw"
KIND = ROOT / "tools" / "cluster" / "kindtools"
CONTAINERD = ROOT / "tools" / "cluster" / "containerd"
REGISTRY = ROOT / "tools" / "cluster" / "registry"
OIDC = ROOT / "tools" / "cluster" / "oidc"
COSIGN = ROOT / "tools" / "release" / "cosign"
# The programs of the two binaries of tools/cluster/kubernetes.
ENTRY_POINTS = (
    "coredns", "etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubeadm",
    "kubectl", "kubelet", "metrics-server",
)  # fmt: skip
CLIENTS = ("ct", "helm", "kubectl")
_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_NODE_PACKAGES = (
    ".",
    "./pause",
    "sigs.k8s.io/cri-tools/cmd/crictl",
    f"{_OPERATOR}/cmd/operator",
    f"{_OPERATOR}/cmd/prometheus-config-reloader",
)
_VERSION = "k8s.io/component-base/version"
# Without these the server calls itself v0.0.0 and charts with a kubeVersion refuse it.
_LDFLAGS = (
    f"-s -w -X {_VERSION}.gitVersion=v{KUBERNETES_VERSION} -X {_VERSION}.gitTreeState=clean"
    f" -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
    f" -X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"
    f" -X helm.sh/helm/v3/internal/version.version=v{HELM3_VERSION}"
    f" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={KUBERNETES_VERSION.split('.')[1]}"
)
# kubectl of the running cluster's version, copied from a node that was pulled.
NODE_PROGRAMS = CACHE / "kind" / "bin"
LAUNCHERS = CACHE / "launchers"
KEPT_BUILDS = 3  # other checkouts, and the branch of a minute ago, use the same cache
# Which version of a program found on PATH serves: how it is asked, and what its (major, minor) must be.
_ON_PATH: dict[str, tuple[list[str], Callable[[tuple[int, int]], bool]]] = {
    "helm": (["version", "--short"], lambda version: version >= (3, 19)),
    "kind": (["version"], lambda version: version >= (0, 33)),  # the first that creates Kubernetes 1.37
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
            "go is not installed, and the programs of the cluster and the tests are built from Go modules. "
            "Install Go 1.26 (Go 1.21 or newer downloads it by itself), then run again."
        )
    return go


def _copy_operator_manifests(go: str, folder: Path) -> None:
    """Keep the operator's CustomResourceDefinitions and role, which its own module ships, next to the programs."""
    module = Path(run([go, "list", "-m", "-f", "{{.Dir}}", _OPERATOR], cwd=CLUSTER).strip())
    manifests = [*(module / "example" / "prometheus-operator-crd").glob("*.yaml")]
    manifests.append(module / "example/rbac/prometheus-operator/prometheus-operator-cluster-role.yaml")
    for manifest in manifests:
        shutil.copyfile(manifest, folder / manifest.name)


@functools.cache  # checking a cached folder reads all of it
def _build(module: Path, packages: tuple[str, ...] = ("tool",), links: tuple[str, ...] = ()) -> Path:
    """Build packages of a module; `links` are the programs of the first package, by whose name it chooses one."""
    name = Path(packages[0]).name if packages[0].startswith("./") else module.name
    folder = CACHE / "programs" / f"{name}-{key_of([module], _LDFLAGS)}"
    if _whole(folder):
        return folder
    with only_one(name):
        if _whole(folder):
            return folder
        go, log, work = _go(), LOGS / f"build-{name}.log", folder.with_suffix(".building")
        log.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        env = {**os.environ, "CGO_ENABLED": "1" if module == VALE else "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        if module in (KEDA, VERSITYGW):  # they run only in images, also on a Mac
            env["GOOS"] = "linux"
        remedy = "Check the network, and GOPROXY if modules come through a proxy; then run again."
        with step(f"download the Go modules of {name}", log):
            run([go, "mod", "download"], cwd=module, env=env, log=log, timeout_seconds=900, remedy=remedy)
        with step(f"build {name} (minutes when nothing is cached)", log):
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
        if packages == _NODE_PACKAGES:
            _copy_operator_manifests(go, work)
        if links == CLIENTS:
            (work / "helm").rename(work / "helm3")
        for link in links:
            (work / link).symlink_to(name)
        (work / "manifest.json").write_text(json.dumps(_manifest(work)))
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        built = sorted(folder.parent.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
        for old in built[:-KEPT_BUILDS]:
            shutil.rmtree(old)
    return folder


def cluster_programs() -> Path:
    """Return the folder with Kubernetes, etcd, CoreDNS, crictl and the operator; build it when needed (long)."""
    return _build(CLUSTER, _NODE_PACKAGES, ENTRY_POINTS)


def clients() -> Path:
    """Return the folder with kubectl, Helm 4 and 3 and ct; build it when needed (minutes)."""
    return _build(CLUSTER, ("./clients", "helm.sh/helm/v3/cmd/helm"), CLIENTS)


def tools() -> Path:
    """Return the folder with what tools/lint/programs/go.mod lists, each under its own name; build it when needed."""
    return _build(TOOLS)


def promtool() -> Path:
    """Return the folder with promtool; build it when needed."""
    return _build(PROMTOOL)


def promtool253() -> Path:
    """Return the folder with promtool of Prometheus 2.53, which has its name as well; build it when needed."""
    return _build(PROMTOOL_253)


def cyclonus() -> Path:
    """Return the folder with cyclonus, an analyser of NetworkPolicies; build it when needed (a minute)."""
    return _build(CYCLONUS)


def dashboard_linter() -> Path:
    """Return the folder with Grafana's linter of dashboards; build it when needed (minutes)."""
    return _build(DASHBOARD_LINTER)


def vale() -> Path:
    """Return the folder with Vale; build it when needed (minutes, with a C compiler for its parsers)."""
    return _build(VALE)


def act() -> Path:
    """Return the folder with act, which runs workflows; build it when needed (minutes)."""
    return _build(ACT)


def keda() -> Path:
    """Return the folder with KEDA's operator and adapter; build it when needed (long)."""
    return _build(KEDA)


def versitygw() -> Path:
    """Return the folder with versitygw, an S3 server; build it when needed (a minute)."""
    return _build(VERSITYGW)


def openid_provider() -> Path:
    """Return the folder with an OpenID provider; build it when needed (a minute)."""
    return _build(OIDC, (".",))


def node_programs() -> Path:
    """Return the folder with kind and the storage provisioner of its nodes; build it when needed."""
    return _build(KIND)


def containerd() -> Path:
    """Return the folder with containerd, its shim and ctr; build it when needed (minutes)."""
    return _build(CONTAINERD)


def registry() -> Path:
    """Return the folder with an image registry; build it when needed (a minute)."""
    return _build(REGISTRY, (".",))


def delivery() -> Path:
    """Return the folder with cosign and syft; build it when needed (long)."""
    return _build(COSIGN)


def find(name: str) -> Path:
    """Return the program to call: the cluster's own, else one on PATH with a suitable version, else the built one.

    Args:
        name: `helm`, `kind`, `kubectl` or another of CLIENTS.

    Raises:
        Failure: The program must be built and cannot be, or HELM_VERSION names a different Helm.
    """
    if name == "helm" and os.environ.get("HELM_VERSION"):
        return _exact_helm(os.environ["HELM_VERSION"])
    if (NODE_PROGRAMS / name).exists():
        return NODE_PROGRAMS / name
    on_path = _which(name)
    if on_path and name in _ON_PATH:
        arguments, serves = _ON_PATH[name]
        asked = subprocess.run([on_path, *arguments], capture_output=True, text=True, timeout=30, check=False)
        version = re.search(r"v(\d+)\.(\d+)\.\d+(?!\S*dispatcher)", asked.stdout)
        if version and serves((int(version[1]), int(version[2]))):
            return Path(on_path)
    return (node_programs() if name == "kind" else clients()) / name


def _which(name: str) -> str | None:
    """Return the program of this name on PATH that is not a launcher of ours."""
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder).parent != LAUNCHERS]
    return shutil.which(name, path=os.pathsep.join(others))


def _exact_helm(version: str) -> Path:
    """Return the Helm on PATH if it has the version that HELM_VERSION names.

    Raises:
        Failure: It has a different one, with which the tests of that version would prove nothing.
    """
    found = _which("helm")
    said = run([found, "version", "--short"]).partition("+")[0].strip() if found else "not installed"
    if found is None or said != version:
        raise Failure(f"HELM_VERSION={version}, but the helm on PATH is {said}. Run make install-helm, or unset it.")
    return Path(found)


# The programs that commands find on PATH, and what builds each.
_ON_DEMAND: dict[str, Callable[[], Path]] = {
    **dict.fromkeys(("ct", "helm3"), clients),
    **dict.fromkeys(("actionlint", "helm-docs", "helm-values-schema-json", "kube-score", "kubeconform"), tools),
    "act": act,
    "promtool": promtool,
    "promtool-253": promtool253,
    "helm": lambda: find("helm").parent,
    "kubectl": lambda: find("kubectl").parent,
}


def program(name: str) -> Path:
    """Return a program of the folder that `launchers` returns; build it when needed."""
    return _ON_DEMAND[name]() / name.removesuffix("-253")


def launchers() -> Path:
    """Return a folder for PATH whose programs are built when they are first called."""
    folder = LAUNCHERS / hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ON_DEMAND:
        link = folder / name
        script = f'#!/bin/sh\nexec "{ROOT}/tools/python" -m tools.cluster launch {name} "$PWD" "$@"\n'
        if link.is_symlink() or not link.exists() or link.read_text() != script:
            made = link.with_name(f".{name}.{os.getpid()}")
            made.write_text(script)
            made.chmod(0o755)
            made.replace(link)
    return folder


def launch(name: str, folder: str, *arguments: str) -> None:
    """Replace the launcher by a link to its program, and this process by that program in its caller's folder."""
    with redirect_stdout(sys.stderr):  # callers read what the program prints
        found = program(name)
    link = launchers() / name
    made = link.with_name(f".{name}.{os.getpid()}")
    made.symlink_to(found)
    made.replace(link)
    os.chdir(folder)
    os.execv(found, [str(found), *arguments])  # noqa: S606 - the caller's own command
