"""Requirements of the machine, each checked before anything starts, with a remedy in the error."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.cluster.cache import CACHE, LOGS
from tools.cluster.console import Failure, run, step

# What is needed where no Docker engine answers, by the program that proves that the package is installed.
PACKAGES = {
    "dockerd": "docker.io",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "ip": "iproute2",
}
FREE_GIGABYTES = 15


def docker_answers() -> bool:
    """Return whether a Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def check_machine() -> None:
    """Refuse a machine on which a Docker engine of our own cannot run.

    Raises:
        Failure: It is not Linux, the kernel is too old or has no overlayfs, or root or free disk is missing.
    """
    if platform.system() != "Linux":
        raise Failure(f"No Docker engine answers, and {platform.system()} cannot run one of our own. Start Docker.")
    if os.geteuid() != 0:
        raise Failure(
            "No Docker engine answers. Start Docker, or run the same command as root on Debian or Ubuntu "
            "(sudo -E make …), where it brings its own engine."
        )
    kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if kernel < (5, 13):
        raise Failure(f"Kernel {platform.release()} is too old for kube-proxy's nftables mode; it needs 5.13 or later.")
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
    """Install the Debian packages that are missing.

    Args:
        packages: Package names by the program, or the file, that proves that the package is installed.

    Raises:
        Failure: This is neither Debian nor Ubuntu, or the packages cannot be installed.
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
