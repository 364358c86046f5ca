"""Tests that the service is installed as in its image, and that rivals are pinned."""

from pathlib import Path

import pytest

from tools.bench.entries import ENTRIES
from tools.bench.environments import DOCKERFILE, image_commands, sizes
from tools.cluster.console import Failure


def test_service_is_installed_with_the_commands_of_the_image() -> None:
    commands = image_commands(DOCKERFILE.read_text(), Path("/somewhere/env"))
    assert "uv sync --frozen --no-default-groups" in commands[0]
    assert any("compileall" in each for each in commands[1:])
    assert not any("/opt/" in each or "/app" in each for each in commands)


def test_unknown_install_command_is_rejected() -> None:
    with pytest.raises(Failure, match="has no RUN with uv sync"):
        image_commands("FROM scratch\nRUN pip install xgboost\n", Path("/somewhere/env"))


@pytest.mark.parametrize("entry", [each for each in ENTRIES if each.packages], ids=lambda each: each.name)
def test_every_package_is_pinned(entry: object) -> None:
    assert all("==" in package for package in entry.packages)  # type: ignore[attr-defined]


def test_sizes_count_files_but_not_links(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    for name, size in (("xgboost/lib.so", 2_000_000), ("nvidia/nccl.so", 3_000_000), ("numpy/core.so", 1_000_000)):
        (packages / name).parent.mkdir(parents=True)
        (packages / name).write_bytes(bytes(size))
    (packages / "link").symlink_to(packages / "numpy" / "core.so")
    assert sizes(tmp_path) == {"environment_mb": 6.0, "xgboost_mb": 5.0}
