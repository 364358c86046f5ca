"""Tests of the engines that kind can use, with what `docker info` prints."""

from pathlib import Path
from typing import Any

import pytest

from tools.cluster import engine
from tools.cluster.console import Failure

# The keys of Docker 28 on Debian that decide; recorded from `docker info --format '{{json .}}'`.
INFORMATION: dict[str, Any] = {
    "ServerVersion": "28.5.1",
    "DockerRootDir": "/nowhere/docker",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "CgroupVersion": "2",
}
LOCAL = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    "host", ["", LOCAL, "npipe:////./pipe/docker_engine", "unix:///home/ada/.docker/run/docker.sock"]
)
def test_local_engine_is_accepted(host: str) -> None:
    engine.check_information(INFORMATION, host)


@pytest.mark.parametrize("host", ["tcp://build.example:2376", "ssh://ada@build.example"])
def test_remote_engine_is_rejected_with_the_remedy(host: str) -> None:
    with pytest.raises(Failure, match=rf"on another machine \({host}\).*unset DOCKER_HOST"):
        engine.check_information(INFORMATION, host)


@pytest.mark.parametrize("version", ["19.03.15", "1.13.1", "20.9"])
def test_old_engine_is_rejected(version: str) -> None:
    with pytest.raises(Failure, match=rf"is version {version}; kind needs 20\.10 or newer"):
        engine.check_information({**INFORMATION, "ServerVersion": version}, LOCAL)


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "29.0.0-rc.1"])
def test_version_with_a_suffix_is_accepted(version: str) -> None:
    engine.check_information({**INFORMATION, "ServerVersion": version}, LOCAL)


def test_rootless_engine_needs_cgroup_v2() -> None:
    rootless = {**INFORMATION, "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]}

    engine.check_information(rootless, LOCAL)
    with pytest.raises(Failure, match="rootless and uses cgroup v1"):
        engine.check_information({**rootless, "CgroupVersion": "1"}, LOCAL)


def test_full_engine_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    information = {**INFORMATION, "DockerRootDir": str(tmp_path)}
    engine.check_information(information, LOCAL)

    monkeypatch.setattr(engine, "FREE_GIGABYTES", 10**6)
    with pytest.raises(Failure, match=rf"{tmp_path} of the Docker engine has .* GB free.*docker system prune"):
        engine.check_information(information, LOCAL)
