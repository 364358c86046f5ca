"""The memory limit of the container, which a model must fit before it is read."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from app.errors import LoadError
from app.model import memory
from tests.app.harness import ROOT
from tests.app.model.test_xgboost import load

MIB = 2**20


@pytest.fixture(autouse=True)
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that takes the place of the kernel's."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    return tmp_path / "cgroup"


def set_limit(cgroup: Path, text: str, version: int = 2) -> None:
    path = cgroup / ("memory.max" if version == 2 else "memory/memory.limit_in_bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def model(folder: Path, name: str, mib: int) -> Path:
    """Return a sparse file."""
    path = folder / name
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    return path


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [(2, "max", None), (2, "536870912", 512 * MIB), (1, "536870912", 512 * MIB), (1, "9223372036854771712", None)],
)
def test_limit_of_both_versions_of_cgroups(cgroup: Path, version: int, text: str, expected: int | None) -> None:
    set_limit(cgroup, text, version)

    assert memory.limit() == expected


def test_machine_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    assert memory.limit() is None
    memory.require(model(tmp_path, "model.ubj", 100_000))


@pytest.mark.parametrize("version", [1, 2])
def test_model_that_needs_too_much_memory_is_refused(tmp_path: Path, cgroup: Path, version: int) -> None:
    set_limit(cgroup, str(512 * MIB), version)

    with pytest.raises(LoadError) as refusal:
        memory.require(model(tmp_path, "model.ubj", 10_000))

    assert not refusal.value.retryable
    start, end = str(refusal.value).split(" of memory, but ")
    assert start.startswith("model.ubj has 10000 MiB, and to load it the process needs about 37")  # 37,000 and its own
    assert end.startswith("the container's limit is 512 MiB; set resources.limits.memory to 4")
    assert end.endswith("Mi or more")


def test_model_is_refused_before_it_is_read(copied: Path, cgroup: Path) -> None:
    set_limit(cgroup, str(512 * MIB))
    model(copied, "model.ubj", 10_000)

    with pytest.raises(LoadError, match=r"the container's limit is 512 MiB"):
        load(copied)


def test_model_that_fits_is_accepted(copied: Path, cgroup: Path) -> None:
    set_limit(cgroup, str(8000 * MIB))

    assert load(copied).signature


@pytest.mark.long
@pytest.mark.parametrize("form", ["ubj", "json"])
def test_large_model_needs_the_expected_memory(tmp_path: Path, form: str) -> None:
    drawn = np.random.default_rng(0)
    matrix = xgb.DMatrix(drawn.random((60_000, 20), dtype=np.float32), label=drawn.random(60_000))
    path = tmp_path / f"model.{form}"
    xgb.train({"max_depth": 16, "min_child_weight": 0, "max_bin": 64, "nthread": 1}, matrix, 60).save_model(path)
    program = (
        "import re, sys; from pathlib import Path; from app.model.booster import Booster, version; version()\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) * 1024\n"
        "before, content = peak(), Path(sys.argv[1]).read_bytes(); Booster(content)\n"
        "print((peak() - before) / len(content))"
    )

    measured = float(subprocess.check_output([sys.executable, "-c", program, str(path)], cwd=ROOT))

    expected = memory.FACTORS.get(path.suffix, memory.FACTOR)
    assert 0.8 * expected < measured <= expected


@pytest.mark.parametrize(("name", "refused"), [("model.ubj", False), ("model.json", True)])
def test_json_needs_more_memory(tmp_path: Path, cgroup: Path, name: str, refused: bool) -> None:
    set_limit(cgroup, str(8000 * MIB))

    with pytest.raises(LoadError, match=r"model\.json has 1000 MiB") if refused else nullcontext():
        memory.require(model(tmp_path, name, 1000))


def test_advised_limit_is_enough(tmp_path: Path, cgroup: Path) -> None:
    set_limit(cgroup, str(512 * MIB))
    file = model(tmp_path, "model.ubj", 10_000)
    with pytest.raises(LoadError) as refusal:
        memory.require(file)
    advised = int(str(refusal.value).rpartition(" to ")[2].partition("Mi")[0])

    set_limit(cgroup, str(advised * MIB))

    memory.require(file)
