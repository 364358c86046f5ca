"""What must be true before anything is started, each with one sentence that says what to do."""

import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.cache import CACHE, LOGS
from tests.cluster.console import Failure, run, step

# What the embedded cluster takes from Debian or Ubuntu, by the program that shows that the package is there.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "ip": "iproute2",
    "mount": "mount",
}
FREE_GIGABYTES = 15
IP_FREEBIND = 15  # <linux/in.h>: bind to an address that no interface has yet; Python does not name it


def docker_answers() -> bool:
    """Say whether a Docker engine answers on this machine."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def check_machine() -> None:
    """Refuse a machine on which the embedded cluster cannot run.

    Raises:
        Failure: not Linux, an old kernel, no overlayfs, not root, or not enough free disk.
    """
    if platform.system() != "Linux":
        raise Failure(
            f"The embedded cluster needs Linux, this is {platform.system()}. Start Docker, install kind, run again."
        )
    kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if kernel < (5, 13):
        raise Failure(f"Kernel {platform.release()} is too old for kube-proxy's nftables mode; it needs 5.13 or later.")
    if os.geteuid() != 0:
        raise Failure(
            "No Docker engine answers, and the embedded cluster needs root. Start Docker and install kind, "
            "or run the same command as root (sudo -E make …)."
        )
    if "overlay" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
        if "overlay" not in Path("/proc/filesystems").read_text():
            raise Failure("This kernel has no overlayfs, which containers need. Use a kernel with CONFIG_OVERLAY_FS.")
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free / 1e9
    needed = FREE_GIGABYTES if not (CACHE / "programs").exists() else 3
    if free < needed:
        raise Failure(
            f"{CACHE} has {free:.1f} GB free, {needed} GB are needed. "
            "Free some, or set MODEL_SERVICE_CACHE to a larger disk."
        )


def install_packages(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install the Debian packages whose programs are not there yet.

    Args:
        packages: by the program, or the file, that shows that a package is there.

    Raises:
        Failure: this is no Debian or Ubuntu, or the packages cannot be had.
    """
    missing = [package for probe, package in packages.items() if not (shutil.which(probe) or Path(probe).exists())]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Failure(f"Install {', '.join(missing)} first: only on Debian and Ubuntu are packages installed for you.")
    if os.geteuid() != 0:
        raise Failure(f"Install {', '.join(missing)} first (as root: apt-get install {' '.join(missing)}).")
    log = LOGS / "packages.log"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    remedy = "Check the network and /etc/apt/sources.list, then run again."
    with step(f"install {' '.join(missing)}", log):
        run(["apt-get", "update"], log=log, env=env, remedy=remedy)
        run(["apt-get", "install", "-y", "--no-install-recommends", *missing], log=log, env=env, remedy=remedy)


def check_network(network: str, bridges: set[str]) -> None:
    """Refuse when another interface uses the cluster's address range.

    Args:
        network: the range in prefix notation.
        bridges: the cluster's own interfaces, which may.

    Raises:
        Failure: names the interface.
    """
    for line in run(["ip", "-4", "route", "show", "root", network, "table", "all"]).splitlines():
        words = line.split()
        device = words[words.index("dev") + 1] if "dev" in words else "?"
        if device not in bridges:
            raise Failure(f"Interface {device} uses {words[0]}, inside {network} of the cluster. Take it down first.")


def check_port(address: str, port: int, program: str) -> None:
    """Refuse when a port of the cluster is taken; a process that is just ending gets 5 s to let go of it.

    Raises:
        Failure: names the port, the program that needs it and the one that has it.
    """
    deadline = time.monotonic() + 5
    while not (_free(address, port, socket.SOCK_STREAM) and _free(address, port, socket.SOCK_DGRAM)):
        if time.monotonic() > deadline:
            listening = run(["ss", "-Hlntup", f"sport = :{port}"])
            holder = re.search(r'users:\(\("([^"]+)",pid=(\d+)', listening)
            name = f"{holder[1]} (process {holder[2]})" if holder else "a process that cannot be seen"
            raise Failure(
                f"Port {port} on {address}, which {program} needs, is in use by {name}. End that program, run again."
            )
        time.sleep(0.2)


def _free(address: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
