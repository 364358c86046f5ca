"""A real one-node Kubernetes as processes of this machine, for where no Docker engine answers. Root only.

etcd, API server, controller manager, scheduler, kubelet, kube-proxy, CoreDNS, metrics-server and a storage provisioner
run beside Debian's containerd. Everything lives in the cache and in /run/model-service; `stop` takes all of it back but
the programs and the images.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from string import Template

from tests.cluster.cache import CACHE, key_of
from tests.cluster.console import Failure, run, step, wait_for
from tests.cluster.daemons import Daemon
from tests.cluster.images import PAUSE, Image, build_with_buildah, save_from_buildah
from tests.cluster.pki import make_pki
from tests.cluster.preflight import check_machine, check_network, check_port, install_packages
from tests.cluster.programs import cluster_programs

# 198.18.0.0/15 is the benchmarking range of RFC 2544: no network routes it, so nothing leaves this machine.
NETWORK = "198.18.0.0/15"
NODE_IP = "198.18.0.1"
PODS = "198.18.128.0/17"
SERVICES = "198.19.0.0/16"
KUBERNETES_SERVICE_IP = "198.19.0.1"
NODE = "model-service"
NODE_BRIDGE, POD_BRIDGE = "msnode0", "mspods0"
PORTS = {
    "etcd": 2379,
    "etcd ": 2380,
    "kube-apiserver": 6443,
    "kubelet": 10250,
    "coredns": 53,
    "metrics-server": 4443,
}

STATE = CACHE / "state"
PKI = STATE / "pki"
KUBECONFIG = STATE / "kubeconfig" / "admin.conf"
RUNTIME = Path("/run/model-service")
SOCKET = RUNTIME / "containerd.sock"
CONTAINERD_ROOT = CACHE / "containerd"  # the images: kept by `stop`, so that the next start is quick
VOLUMES = STATE / "volumes"
CGROUPS = Path("/sys/fs/cgroup")
TEMPLATES = Path(__file__).parent / "manifests"


def _write_configuration() -> None:
    """Write the kubeconfig of every client and the configuration files that have no flags."""
    for name in ("admin", "controller-manager", "scheduler", "kubelet", "proxy"):
        cluster = {"server": f"https://{NODE_IP}:6443", "certificate-authority": str(PKI / "ca.crt")}
        user = {"client-certificate": str(PKI / f"{name}.crt"), "client-key": str(PKI / f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NODE, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": name}}],
            "current-context": NODE,
        }
        _write(KUBECONFIG.parent / f"{name}.conf", json.dumps(config, indent=1))
    names = {
        "state": STATE, "pki": PKI, "run": RUNTIME, "images": CONTAINERD_ROOT, "node_ip": NODE_IP, "pods": PODS,
        "pod_bridge": POD_BRIDGE, "pod_subnet": PODS.replace("/17", "/24"), "runc": shutil.which("runc"), "node": NODE,
        "pause": PAUSE.reference,
    }  # fmt: skip
    for template in (TEMPLATES / "node").iterdir():
        folder = "cni" if template.suffix == ".conflist" else "etc"
        _write(STATE / folder / template.name, Template(template.read_text()).substitute(names))


def _write(path: Path, text: str) -> None:
    """Write a file unless it says so already: kube-proxy ends itself when its file is touched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _daemons(programs: Path) -> list[Daemon]:
    """Return every process of the cluster in the order in which they start."""
    client = KUBECONFIG.parent

    def certificate(prefix: str, name: str) -> list[str]:
        return [f"--{prefix}cert-file={PKI / name}.crt", f"--{prefix}key-file={PKI / name}.key"]

    def three_times(name: str) -> list[str]:
        flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        return [f"--{flag}={client / name}.conf" for flag in flags]

    commands = {
        "containerd": [shutil.which("containerd") or "containerd", "-c", f"{STATE}/etc/containerd.toml"],
        "etcd": [
            f"--data-dir={STATE}/etcd", "--unsafe-no-fsync", "--log-level=warn", "--listen-metrics-urls=",
            "--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
            "--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
            "--initial-cluster=default=https://127.0.0.1:2380",
            *certificate("", "etcd"), f"--trusted-ca-file={PKI}/ca.crt", "--client-cert-auth",
            *certificate("peer-", "etcd"), f"--peer-trusted-ca-file={PKI}/ca.crt", "--peer-client-cert-auth",
        ],
        "kube-apiserver": [
            f"--bind-address={NODE_IP}", f"--advertise-address={NODE_IP}", "--secure-port=6443",
            "--etcd-servers=https://127.0.0.1:2379", f"--etcd-cafile={PKI}/ca.crt",
            f"--etcd-certfile={PKI}/etcd.crt", f"--etcd-keyfile={PKI}/etcd.key",
            f"--tls-cert-file={PKI}/apiserver.crt", f"--tls-private-key-file={PKI}/apiserver.key",
            f"--client-ca-file={PKI}/ca.crt", "--anonymous-auth=false", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={PKI}/service-accounts.key",
            f"--service-account-signing-key-file={PKI}/service-accounts.key",
            f"--kubelet-certificate-authority={PKI}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={PKI}/admin.crt", f"--kubelet-client-key={PKI}/admin.key",
            f"--requestheader-client-ca-file={PKI}/ca.crt", "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={PKI}/front-proxy.crt", f"--proxy-client-key-file={PKI}/front-proxy.key",
        ],
        "kube-controller-manager": [
            *three_times("controller-manager"), "--bind-address=127.0.0.1", "--leader-elect=false",
            f"--service-account-private-key-file={PKI}/service-accounts.key", f"--root-ca-file={PKI}/ca.crt",
            "--use-service-account-credentials", f"--cluster-cidr={PODS}", "--allocate-node-cidrs",
            "--node-cidr-mask-size=24", f"--service-cluster-ip-range={SERVICES}",
            f"--cluster-signing-cert-file={PKI}/ca.crt", f"--cluster-signing-key-file={PKI}/ca.key",
            "--horizontal-pod-autoscaler-sync-period=5s",
        ],
        "kube-scheduler": [*three_times("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false"],
        "kubelet": [
            f"--kubeconfig={client}/kubelet.conf", f"--config={STATE}/etc/kubelet.yaml", f"--root-dir={STATE}/kubelet",
            f"--cert-dir={PKI}", f"--hostname-override={NODE}", f"--node-ip={NODE_IP}",
        ],
        "kube-proxy": [f"--config={STATE}/etc/proxy.yaml"],
        "coredns": ["-conf", f"{STATE}/etc/Corefile"],
        "metrics-server": [
            *three_times("admin"), f"--bind-address={NODE_IP}", "--secure-port=4443",
            f"--cert-dir={STATE}/metrics-server",
            f"--kubelet-certificate-authority={PKI}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s", "--kubelet-request-timeout=5s",
        ],
        "storage-provisioner": [f"--kubeconfig={client}/admin.conf", f"--root={VOLUMES}"],
    }  # fmt: skip
    settings = key_of([TEMPLATES / "node"], PAUSE.reference)
    return [
        Daemon(name, command if name == "containerd" else [str(programs / name), *command], STATE, settings)
        for name, command in commands.items()
    ]


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl against the embedded cluster and return what it printed."""
    return run([cluster_programs() / "kubectl", "--kubeconfig", KUBECONFIG, *arguments], stdin=stdin)


def _ctr(*arguments: str) -> str:
    return run(["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments])


def _crictl(*arguments: str) -> str:
    return run(
        [cluster_programs() / "crictl", "--runtime-endpoint", f"unix://{SOCKET}", "--timeout", "30s", *arguments]
    )


def build(image: Image) -> None:
    """Build an image without Docker."""
    build_with_buildah(image)


def load(image: Image) -> None:
    """Bring a built image to the node unless all of it is there, and drop older builds of the same name."""
    present = _ctr("images", "check", f"name=={image.reference}")
    if " complete " in present:
        return
    build_with_buildah(image)
    with step(f"load image {image.name}"), tempfile.TemporaryDirectory(dir=CACHE) as work:
        archive = Path(work) / "image.tar"
        save_from_buildah(image, archive)
        _ctr("images", "import", str(archive))
    _drop_older_builds(image)


def _drop_older_builds(image: Image) -> None:
    """Remove other builds of the same image from the node; one with the same content only loses its older name."""
    for known in json.loads(_crictl("images", "--output", "json"))["images"]:
        older = {tag for tag in known["repoTags"] if tag.startswith(f"localhost/{image.name}:")} - {image.reference}
        if older and image.reference in known["repoTags"]:
            _ctr("images", "rm", *older)
        elif older:
            _crictl("rmi", known["id"])


def _make_bridge() -> None:
    """Give the node its address on a bridge of its own: it answers there and nowhere else."""
    remedy = "The kernel must let root make a bridge interface (CONFIG_BRIDGE, CAP_NET_ADMIN)."
    if not Path(f"/sys/class/net/{NODE_BRIDGE}").exists():
        run(["ip", "link", "add", NODE_BRIDGE, "type", "bridge"], remedy=remedy)
        run(["ip", "address", "add", f"{NODE_IP}/32", "dev", NODE_BRIDGE], remedy=remedy)
        run(["ip", "link", "set", NODE_BRIDGE, "up"], remedy=remedy)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start() -> Path:
    """Start what does not run yet, until the node is ready, and return the kubeconfig.

    Raises:
        Failure: the machine cannot run it, or a program does not come up; what this call started is stopped again.
    """
    check_machine()
    install_packages()
    programs = cluster_programs()
    fresh = not STATE.exists()
    check_network(NETWORK, {NODE_BRIDGE, POD_BRIDGE})
    STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    daemons = _daemons(programs)
    for program, port in PORTS.items():
        if not next(daemon for daemon in daemons if daemon.name == program.strip()).running():
            check_port("127.0.0.1" if port in (2379, 2380) else NODE_IP, port, program.strip())
    try:
        with step("start the embedded Kubernetes"):
            _start(daemons)
    except BaseException:
        if fresh:
            stop()
        raise
    return KUBECONFIG


def _start(daemons: list[Daemon]) -> None:
    make_pki(PKI, NODE, NODE_IP, KUBERNETES_SERVICE_IP)
    for folder in (VOLUMES, RUNTIME):
        folder.mkdir(parents=True, exist_ok=True)
    _write_configuration()
    _make_bridge()
    probes = {
        "containerd": lambda: _ctr("version"),
        "kube-apiserver": lambda: kubectl("get", "--raw", "/readyz"),
    }
    for daemon in daemons:
        if daemon.name == "kubelet":
            load(PAUSE)  # the kubelet makes every pod's sandbox from it
        daemon.start()
        if daemon.name in probes:
            wait_for(daemon.name, probes[daemon.name], timeout_seconds=90, remedy=f"See {daemon.log}.")
    for manifest in ("storage.yaml", "metrics-server.yaml"):
        text = Template((TEMPLATES / manifest).read_text()).substitute(node_ip=NODE_IP)
        kubectl("apply", "--server-side", "-f", "-", stdin=text)
    ready = ["wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=1s"]
    wait_for("node ready", lambda: kubectl(*ready), timeout_seconds=120, remedy=f"See {STATE}/log/kubelet.log.")
    for daemon in daemons:
        if not daemon.running():  # one that gave up while its peers were still starting
            daemon.start()


def status() -> str:
    """Return a line per process of the cluster: whether it runs, and where it writes."""
    lines = []
    for daemon in _daemons(cluster_programs()):
        mark, rest = ("✓", "") if daemon.running() else ("✗", f"does not run; see {daemon.log}")
        lines.append(f"  {mark}  {daemon.name:<25}{rest}".rstrip())
    return "\n".join(lines)


def stop() -> None:
    """End every process, take back every mount, interface, rule and file; keep the programs and the images."""
    if not STATE.exists() and not RUNTIME.exists():
        return
    daemons = {daemon.name: daemon for daemon in _daemons(cluster_programs())}
    order = list(reversed(daemons))
    for name in order:
        if name != "containerd":  # it is needed to take the pods down
            daemons[name].stop()
    _remove_pods(daemons["containerd"])
    daemons["containerd"].stop()
    _unmount(STATE, RUNTIME)
    for bridge in (POD_BRIDGE, NODE_BRIDGE):
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)
    for family in ("ip", "ip6"):
        subprocess.run(["nft", "delete", "table", family, "kube-proxy"], capture_output=True, check=False)
    for group in [*CGROUPS.glob("*/kubepods"), CGROUPS / "kubepods"]:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    _remove_traces()
    for leftover in (STATE, RUNTIME):
        shutil.rmtree(leftover, ignore_errors=False)


def _remove_pods(containerd: Daemon) -> None:
    """Stop and remove every pod by the runtime's own interface: processes, shims, mounts, addresses."""
    try:
        if not containerd.running():
            containerd.start()
            wait_for("containerd", lambda: _ctr("version"), timeout_seconds=30, remedy=f"See {containerd.log}.")
        _crictl("rmp", "--all", "--force")
    except Failure as failure:
        raise Failure(f"{failure}\nPods could not be removed; `make down` again goes on from here.") from failure


def _unmount(*folders: Path) -> None:
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted(mounted, reverse=True):
        if any(Path(point).is_relative_to(folder) for folder in folders):
            run(["umount", point])


def _remove_traces() -> None:
    """Remove what containerd, the kubelet and CNI leave in system folders by their own fixed names."""
    for link in Path("/var/log/containers").glob("*.log"):
        if str(STATE) in os.readlink(link):
            link.unlink()
    for cached in Path("/var/lib/cni/results").glob("model-service-pods-*"):
        cached.unlink()
    Path("/var/lib/kubelet/device-plugins/kubelet.sock").unlink(missing_ok=True)
    roots = (
        "/var/log/containers",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/usr/libexec/kubernetes",
        "/run/containerd",
    )
    for root in roots:
        for folder, _, _ in os.walk(root, topdown=False):
            if not any(Path(folder).iterdir()):  # what others put there stays
                Path(folder).rmdir()
