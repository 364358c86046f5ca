"""Tests of the images' content: no build tools, compiled bytecode, and reproducible layers."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.cluster.images import PRODUCTS, SOURCE_DATE_EPOCH, TRAINING, Image, build_again, buildah, python_image

COMPILERS = re.compile(r"(\w+-linux-gnu-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make|cmake|rustc|cargo|go)([-.\d]*)")
INSTALLERS = re.compile(r"(pip|uv|uvx)([\d.]*|-[\d.]+\.dist-info)")

each_image = pytest.mark.parametrize("image", PRODUCTS, ids=lambda image: image.name)


@contextmanager
def mounted(reference: str) -> Iterator[Path]:
    """Yield the folder where the root of an image is mounted."""
    container = buildah("from", "--pull-never", reference).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


@contextmanager
def added(image: Image) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the root of an image, and its files that the base image does not have."""
    with mounted(python_image()) as base, mounted(image.local) as root:
        theirs = {path.relative_to(base) for path in base.rglob("*")}
        yield root, [path for path in root.rglob("*") if path.relative_to(root) not in theirs]


def layers(reference: str) -> list[str]:
    """Return the digests of the layers of an image, base first."""
    return list(json.loads(buildah("inspect", "--type", "image", reference))["Docker"]["rootfs"]["diff_ids"])


def installers(files: list[Path]) -> set[str]:
    """Return the programs and packages of pip and uv."""
    return {f.name for f in files if f.parent.name in ("bin", "site-packages") and INSTALLERS.fullmatch(f.name)}


@each_image
def test_image_has_no_compiler_or_installer(image: Image) -> None:
    with added(image) as (root, ours):
        programs = {path.name for path in root.rglob("bin/*")}
        found = installers(ours)

    assert "python3" in programs
    assert {name for name in programs if COMPILERS.fullmatch(name)} == set()
    # `training lock` and `training promote` make environments of models of other flavors with uv.
    assert {name for name in found if not (image is TRAINING and name.startswith("uv"))} == set()
    assert {"pip", "pip3"} < installers(
        list(Path(sys.prefix).rglob("*"))
    )  # this environment has pip, which proves the check


@each_image
def test_code_is_compiled_and_dates_are_fixed(image: Image) -> None:
    with added(image) as (_, ours):
        dates = {path.lstat().st_mtime for path in ours}
        sources = [path for path in ours if path.suffix == ".py" and path.parent.name != "bin"]
        missing = [
            path for path in sources if not (path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc").exists()
        ]
        compiled = [path for path in ours if path.suffix == ".pyc"]
        flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled}

    assert dates == {float(SOURCE_DATE_EPOCH)}
    assert missing == []
    assert flags == {1}  # hash-based, valid for any date of the source (PEP 552)
    assert len(compiled) > 500


@pytest.mark.long  # 30 to 120 seconds each
@each_image
def test_two_builds_have_the_same_layers(image: Image) -> None:
    again = f"localhost/{image.name}-again:1"
    try:
        build_again(image, again, "--no-cache")

        assert layers(again) == layers(image.local)
        assert len(layers(again)) > 2
    finally:
        buildah("rmi", "--force", again)
