"""The embedded cluster itself: closed to others, able to heal, and clear about what it needs."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.cluster import embedded, node, preflight, programs
from tests.cluster.access import Access, http
from tests.cluster.cache import ROOT
from tests.cluster.console import Failure
from tests.cluster.main_job import NAMESPACE, SERVICE

CLUSTER = [sys.executable, "-m", "tests.cluster"]


def _pids() -> dict[str, int]:
    records = (node.STATE / "run").glob("*.json")
    return {record.stem: json.loads(record.read_text())["pid"] for record in records}


def _assert_healed(access: Access) -> None:
    embedded.start()
    access.kubectl("wait", f"node/{node.NODE}", "--for=condition=Ready", "--timeout=60s")
    access.kubectl("rollout", "status", "deployment", "--namespace", NAMESPACE, "--timeout=120s")
    with access.forward(SERVICE, 80, NAMESPACE) as url:
        assert http(f"{url}/predict", http(f"{url}/model")["input_example"])["predictions"]


def test_nothing_listens_beyond_the_node() -> None:
    ours = {str(pid) for pid in _pids().values()}
    lines = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = {line.split()[3] for line in lines if ours & set(re.findall(r"pid=(\d+)", line))}

    assert f"{node.NODE_IP}:6443" in addresses
    assert {address.rpartition(":")[0] for address in addresses} == {node.NODE_IP, "127.0.0.1"}


def test_state_and_keys_are_private() -> None:
    assert node.STATE.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in node.PKI.glob("*.key")} == {0o600}


def test_anonymous_callers_are_refused() -> None:
    trust = ssl.create_default_context(cafile=node.PKI / "ca.crt")
    connection = HTTPSConnection(node.NODE_IP, 6443, context=trust, timeout=5)
    connection.request("GET", "/api")
    status = connection.getresponse().status
    connection.close()

    assert status == 401


def test_second_start_leaves_every_process_alone() -> None:
    before = _pids()
    time.sleep(1)

    embedded.start()
    time.sleep(3)

    assert _pids() == before
    assert "✗" not in embedded.status()


def test_status_names_a_dead_process_and_the_remedy() -> None:
    os.kill(_pids()["kube-apiserver"], signal.SIGKILL)
    done = subprocess.run([*CLUSTER, "status"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    embedded.start()

    assert re.search(r"✗  kube-apiserver +does not run; see \S+kube-apiserver.log", done.stdout)
    assert "Run make up" in done.stdout


def test_start_heals_a_cluster_whose_every_process_was_killed(access: Access) -> None:
    for pid in _pids().values():
        os.kill(pid, signal.SIGKILL)

    _assert_healed(access)


@pytest.mark.long
@pytest.mark.parametrize("name", [*programs.ENTRY_POINTS, "containerd"])
def test_start_heals_one_killed_process(access: Access, name: str) -> None:
    pid = _pids().get(name)
    if pid is None:
        assert name in ("ct", "helm", "kubectl"), "every other program is a process of the cluster"
        return
    os.kill(pid, signal.SIGKILL)

    _assert_healed(access)
    assert _pids()[name] != pid


def test_torn_cache_is_built_again() -> None:
    folder = programs.tools()
    with (folder / "actionlint").open("r+b") as binary:
        binary.truncate(1000)
    programs._build.cache_clear()

    again = programs.tools()

    assert subprocess.run([again / "actionlint", "-version"], capture_output=True, check=False).returncode == 0


def test_port_in_use_is_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(Failure, match=rf"Port {port} on 127\.0\.0\.1, which etcd needs, is in use by .*python"):
            preflight.check_port("127.0.0.1", port, "etcd")


def test_user_without_root_is_told_the_remedy() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Failure, match="needs root"):
            preflight.check_machine()
    finally:
        os.seteuid(0)


def test_old_kernel_is_refused() -> None:
    code = "from tests.cluster.preflight import check_machine; check_machine()"
    done = subprocess.run(
        ["setarch", "--uname-2.6", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "is too old for kube-proxy" in done.stderr


def test_overlapping_network_is_named() -> None:
    with pytest.raises(Failure, match=node.NODE_BRIDGE):
        preflight.check_network(node.NETWORK, {node.POD_BRIDGE})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_full_disk_is_refused_before_anything_starts(small_disk: Path) -> None:
    env = {**os.environ, "MODEL_SERVICE_CACHE": str(small_disk), "CLUSTER": "embedded"}
    done = subprocess.run([*CLUSTER, "up"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "GB free" in done.stdout
    assert "MODEL_SERVICE_CACHE" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (small_disk / "state").exists()


def test_no_network_ends_at_once_with_the_remedy(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "MODEL_SERVICE_CACHE": str(tmp_path),
        "GOMODCACHE": str(tmp_path / "modules"),
        "CLUSTER": "embedded",
    }
    command = ["unshare", "--net", *CLUSTER, "up"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1
    assert "Check" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()
    shutil.rmtree(tmp_path)


@pytest.mark.long
def test_down_leaves_nothing_behind_and_up_works_again() -> None:
    pids = _pids()
    subprocess.run([*CLUSTER, "down"], cwd=ROOT, check=True, timeout=300)

    assert not any((Path("/proc") / str(pid) / "exe").exists() for pid in pids.values())
    assert not node.STATE.exists()
    assert not node.RUNTIME.exists()
    assert "model-service" not in Path("/proc/self/mountinfo").read_text()
    assert not [link for link in (node.NODE_BRIDGE, node.POD_BRIDGE) if Path(f"/sys/class/net/{link}").exists()]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "kube-proxy" not in tables
    subprocess.run([*CLUSTER, "up"], cwd=ROOT, check=True, timeout=600)
