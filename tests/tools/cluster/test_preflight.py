"""Tests of the requirements of a machine without Docker: each missing one is an error with a remedy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.cluster import preflight
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure


def make(verb: str, cache: Path, *prefix: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make up` or `make down` with a cache of its own, where no Docker engine answers."""
    nowhere = f"unix://{cache}/no-docker.sock"
    env = {**os.environ, "MODEL_SERVICE_CACHE": str(cache), "DOCKER_HOST": nowhere, **variables}
    command = [*prefix, sys.executable, "-m", "tools.cluster", verb]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A 16 MB file system."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_full_disk_is_rejected_before_anything_starts(small_disk: Path) -> None:
    done = make("up", small_disk)

    assert done.returncode == 1
    assert "GB free" in done.stdout
    assert "MODEL_SERVICE_CACHE" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (small_disk / "engine").exists()


def test_missing_network_fails_fast_with_the_remedy(tmp_path: Path) -> None:
    done = make("up", tmp_path, "unshare", "--net", GOMODCACHE=str(tmp_path / "modules"))
    # The engine starts while the download fails. Its bridges have the names of those on this machine.
    ended = make("down", tmp_path, "unshare", "--net")

    assert done.returncode == 1
    assert "Check" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert (ended.returncode, list((tmp_path / "engine").glob("docker.*"))) == (0, [])
    shutil.rmtree(tmp_path)


def test_missing_root_is_reported_with_the_remedy() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Failure, match="as root on Debian or Ubuntu"):
            preflight.check_machine()
    finally:
        os.seteuid(0)


def test_old_kernel_is_rejected() -> None:
    code = "from tools.cluster.preflight import check_machine; check_machine()"
    done = subprocess.run(
        ["setarch", "--uname-2.6", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "is too old for kube-proxy" in done.stderr


@pytest.fixture
def other_bridge() -> Iterator[str]:
    """An interface with an address of the benchmarking range, as another program might have."""
    name = "taken0"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "198.18.200.1/28", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_overlapping_network_is_reported(other_bridge: str) -> None:
    with pytest.raises(Failure, match=f"Interface {other_bridge} uses 198.18.200.0/28"):
        preflight.check_network("198.18.200.0/24", set())

    preflight.check_network("198.18.200.0/24", {other_bridge})
