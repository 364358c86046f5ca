"""The parts of the kind node image and of the engine that both layouts of cgroups and any machine decide."""

import json
import subprocess
from pathlib import Path

import pytest

from tools.cluster import runc_within_bounds
from tools.cluster.node_image import PROGRAMS_IMAGE, ROOTFS, SANDBOX

KUBELET_CGROUPS = ROOTFS / "usr/local/bin/kubelet-cgroups"


def test_kubelet_gets_a_cgroup_in_each_v1_hierarchy(tmp_path: Path) -> None:
    for name in ("cpuset", "memory"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")

    subprocess.run(["sh", KUBELET_CGROUPS, tmp_path], check=True)

    assert (tmp_path / "memory" / "kubelet").is_dir()
    assert (tmp_path / "cpuset" / "kubelet" / "cpuset.cpus").read_text() == "0-1\n"
    assert (tmp_path / "cpuset" / "kubelet" / "cpuset.mems").read_text() == "0\n"


def test_kubelet_gets_one_cgroup_in_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "system.slice").mkdir()

    subprocess.run(["sh", KUBELET_CGROUPS, tmp_path], check=True)

    assert (tmp_path / "kubelet").is_dir()
    assert not (tmp_path / "system.slice" / "kubelet").exists()


def test_scripts_of_the_node_are_valid_and_executable() -> None:
    scripts = sorted((ROOTFS / "usr/local/bin").iterdir())

    assert scripts
    for script in scripts:
        assert script.stat().st_mode & 0o111 == 0o111, script
        shell = script.read_text().split("\n", 1)[0].removeprefix("#!")
        subprocess.run([shell, "-n", script], check=True)


def test_manifests_name_the_images_that_are_built() -> None:
    manifests = "".join(path.read_text() for path in (ROOTFS / "kind/manifests").iterdir())
    images = {line.split("image: ")[1] for line in manifests.splitlines() if "image: " in line}

    assert images == {PROGRAMS_IMAGE}
    assert f'sandbox = "{SANDBOX}"' in (ROOTFS / "etc/containerd/config.toml").read_text()


@pytest.mark.parametrize("path", [("process",), ()])
def test_capabilities_outside_the_bounding_set_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setattr(runc_within_bounds, "missing", lambda: {"CAP_SYS_RESOURCE"})
    held = {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "ambient": None}, "args": ["sh"]}
    document = tmp_path / "config.json"
    document.write_text(json.dumps({"process": held} if path else held))

    runc_within_bounds.remove(document, *path)

    found = json.loads(document.read_text())
    found = found["process"] if path else found
    assert found == {"capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []}, "args": ["sh"]}


def test_missing_capabilities_are_those_that_the_kernel_denies() -> None:
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)

    assert len(runc_within_bounds.missing()) == len(runc_within_bounds.NAMES) - (bounding & ((1 << 41) - 1)).bit_count()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(["--bundle", "/b", "id"], "/b"), (["--bundle=/b"], "/b"), (["-b", "/b"], "/b"), (["create"], None)],
)
def test_option_is_found_in_each_spelling(arguments: list[str], value: str | None) -> None:
    assert runc_within_bounds.option(arguments, "--bundle", "-b") == value
