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

from tests.cluster.cache import CACHE
from tests.cluster.console import Failure, run, step, wait_for
from tests.cluster.daemons import Daemon
from tests.cluster.images import PAUSE, Image, build_with_buildah, save_from_buildah
from tests.cluster.node import (
    KUBECONFIG,
    KUBERNETES_SERVICE_IP,
    NETWORK,
    NODE,
    NODE_BRIDGE,
    NODE_IP,
    PKI,
    POD_BRIDGE,
    PORTS,
    RUNTIME,
    SOCKET,
    STATE,
    TEMPLATES,
    VOLUMES,
    write_configuration,
)
from tests.cluster.node import daemons as node_daemons
from tests.cluster.pki import make_pki
from tests.cluster.preflight import check_machine, check_network, check_port, install_packages
from tests.cluster.programs import cluster_programs

CGROUPS = Path("/sys/fs/cgroup")
_ROOM_BYTES = 10 << 30  # free; below it other builds of an image leave the node


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
    """Bring a built image to the node unless all of it is there; builds of other checkouts stay while there is room."""
    present = _ctr("images", "check", f"name=={image.reference}")
    if " complete " in present:
        return
    build_with_buildah(image)
    with step(f"load image {image.name}"), tempfile.TemporaryDirectory(dir=CACHE) as work:
        archive = Path(work) / "image.tar"
        save_from_buildah(image, archive)
        _ctr("images", "import", str(archive))
    if shutil.disk_usage(CACHE).free < _ROOM_BYTES:
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
    daemons = node_daemons(programs)
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
    write_configuration()
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
    for daemon in node_daemons(cluster_programs()):
        mark, rest = ("✓", "") if daemon.running() else ("✗", f"does not run; see {daemon.log}")
        lines.append(f"  {mark}  {daemon.name:<25}{rest}".rstrip())
    return "\n".join(lines)


def stop() -> None:
    """End every process, take back every mount, interface, rule and file; keep the programs and the images."""
    if not STATE.exists() and not RUNTIME.exists():
        return
    daemons = {daemon.name: daemon for daemon in node_daemons(cluster_programs())}
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
