"""The Docker engine that kind runs on: the one that answers, else one of our own from Debian's package.

Our own engine touches nothing outside its folders: it has its own socket, data, address pools from a documentation
range, and makes no firewall rule. Containers therefore reach each other and this machine, and nothing else.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.cluster.cache import CACHE
from tools.cluster.console import Failure, run, step, wait_for
from tools.cluster.daemons import Daemon
from tools.cluster.preflight import check_network, docker_answers
from tools.cluster.runc_within_bounds import missing

STATE = CACHE / "engine"
SOCKET = STATE / "docker.sock"
# Sockets have short paths. Each cache has an engine of its own, which must not remove another one's files.
RUNTIME = Path(f"/run/model-service-engine-{hashlib.sha256(str(CACHE).encode()).hexdigest()[:8]}")
# TEST-NET-2 of RFC 5737, which no network routes: the bridge has the lower half, kind's network a quarter.
NETWORK, BRIDGE_ADDRESS, KIND_NETWORK = "198.51.100.0/24", "198.51.100.1/25", "198.51.100.128/26"
BRIDGE, KIND_BRIDGE = "docker0", "model-service0"
OLDEST = (20, 10)  # the oldest that BuildKit and cgroup namespaces work on
STOP_SECONDS = 60  # for the engine to stop its containers; one that is killed leaves a pid file
FREE_GIGABYTES = 5  # the nodes and the images of a first run
RUNTIME_WRAPPER = STATE / "bin" / "runc-within-bounds"


@functools.cache  # each command asks, and an engine that does not answer takes seconds
def ours() -> bool:
    """Return whether this project's own engine is the one to use: no other answers."""
    return SOCKET.exists() or not docker_answers()


def environment() -> Mapping[str, str]:
    """Return the environment in which `docker` and kind reach the engine."""
    if not ours():
        return os.environ
    # The client of the package: a newer one on PATH may lack what the engine's version needs.
    return {**os.environ, "DOCKER_HOST": f"unix://{SOCKET}", "PATH": f"{STATE}/bin{os.pathsep}{os.environ['PATH']}"}


def docker(*arguments: object, log: Path | None = None, timeout_seconds: float = 600, remedy: str = "") -> str:
    """Run the Docker client against the engine and return what it printed."""
    return run(["docker", *arguments], env=environment(), log=log, timeout_seconds=timeout_seconds, remedy=remedy)


def has_image(reference: str) -> bool:
    """Return whether the engine has an image."""
    return bool(docker("images", "--quiet", reference).strip())


def check() -> None:
    """Refuse a user's engine that kind cannot use (`check_information`), before anything is built."""
    if not ours():
        host = os.environ.get("DOCKER_HOST") or docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
        check_information(json.loads(docker("info", "--format", "{{json .}}")), host.strip())


def check_information(information: Mapping[str, Any], host: str) -> None:
    """Refuse an engine by what it reports.

    Args:
        information: Output of `docker info --format json`.
        host: DOCKER_HOST or the endpoint of the current context; "" for the default socket.

    Raises:
        Failure: The engine is on another machine, rootless under cgroup v1, too old, or its disk is nearly full.
    """
    if host and not host.startswith(("unix://", "npipe://")):
        raise Failure(
            f"The Docker engine is on another machine ({host}), where the cluster's ports would open. "
            "Run the same command on that machine, or unset DOCKER_HOST (docker context use default)."
        )
    version = str(information.get("ServerVersion", ""))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Failure(f"The Docker engine is version {version}; kind needs {oldest} or newer. Update Docker.")
    rootless = any("name=rootless" in option for option in information.get("SecurityOptions") or ())
    if rootless and str(information.get("CgroupVersion")) != "2":
        raise Failure(
            "The Docker engine is rootless and uses cgroup v1, on which kind cannot limit pods. Boot with cgroup v2 "
            "(systemd.unified_cgroup_hierarchy=1), or use a Docker engine that runs as root."
        )
    root = Path(str(information.get("DockerRootDir", "")))
    if root.exists():  # on macOS and Windows it is inside a virtual machine
        free = shutil.disk_usage(root).free / 1e9
        if free < FREE_GIGABYTES:
            raise Failure(
                f"{root} of the Docker engine has {free:.1f} GB free, {FREE_GIGABYTES} GB are needed. "
                "Free some with docker system prune."
            )


def start() -> None:
    """Start our own engine where no engine answers.

    Raises:
        Failure: The engine does not start.
    """
    if not ours():
        return
    daemon = _daemon()
    if not daemon.current():
        daemon.stop(STOP_SECONDS)
        _remove_remains()
        check_network(NETWORK, {BRIDGE, KIND_BRIDGE})
    (STATE / "bin").mkdir(parents=True, exist_ok=True, mode=0o700)
    client = STATE / "bin" / "docker"
    client.unlink(missing_ok=True)
    client.symlink_to("/usr/bin/docker")
    _copy_runtime_wrapper()
    with step("start the Docker engine"):
        daemon.start()
        wait_for("the Docker engine", lambda: docker("version"), timeout_seconds=300, remedy=f"See {daemon.log}.")
        if "kind" not in docker("network", "ls", "--format", "{{.Name}}").split():
            name = f"--opt=com.docker.network.bridge.name={KIND_BRIDGE}"
            docker("network", "create", "kind", "--subnet", KIND_NETWORK, name)


def _copy_runtime_wrapper() -> None:
    """Copy the wrapper out of this checkout: the engine serves all checkouts, and outlives this one."""
    made = RUNTIME_WRAPPER.with_suffix(f".{os.getpid()}")
    shutil.copy(Path(__file__).with_name("runc_within_bounds.py"), made)
    made.replace(RUNTIME_WRAPPER)


def _remove_remains() -> None:
    """Remove what keeps the engine from starting after it was killed: its pid file, and its containerd, which lives."""
    (STATE / "docker.pid").unlink(missing_ok=True)
    record = RUNTIME / "containerd" / "containerd.pid"
    try:
        pid = int(record.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if str(RUNTIME).encode() in command:  # else the number is another process's by now
        os.kill(pid, signal.SIGKILL)
        wait_for("the end of containerd", lambda: not Path(f"/proc/{pid}").exists(), timeout_seconds=10, remedy="")
    record.unlink(missing_ok=True)


def _daemon() -> Daemon:
    dockerd = shutil.which("dockerd") or "/usr/sbin/dockerd"
    command = [
        dockerd, f"--host=unix://{SOCKET}", f"--data-root={STATE}/data", f"--exec-root={RUNTIME}",
        f"--pidfile={STATE}/docker.pid", "--iptables=false", "--ip6tables=false", f"--bip={BRIDGE_ADDRESS}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
    ]  # fmt: skip
    if missing():
        command += [f"--add-runtime=bounded={RUNTIME_WRAPPER}", "--default-runtime=bounded"]
    return Daemon("dockerd", command, STATE)


def running() -> bool:
    """Return whether our own engine runs."""
    return _daemon().running()


def stop() -> None:
    """End our own engine with its containers and interfaces; keep the images."""
    daemon = _daemon()
    if not daemon.running() and not SOCKET.exists():
        return
    if daemon.running() and SOCKET.exists():  # else it has only begun to start
        for name in docker("ps", "--all", "--quiet").split():
            docker("rm", "--force", "--volumes", name)
        docker("network", "prune", "--force")
    daemon.stop(STOP_SECONDS)
    SOCKET.unlink(missing_ok=True)
    for bridge in (BRIDGE, KIND_BRIDGE):
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)
    shutil.rmtree(RUNTIME, ignore_errors=True)
