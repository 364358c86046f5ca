"""The environment of a run: threads, processor, packages and code. It is recorded because it can change the model."""

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import version as installed
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PACKAGES = ("xgboost-cpu", "numpy", "pandas", "pyarrow", "scikit-learn", "mlflow-skinny", "optuna")
_ROOT = Path(__file__).parents[1]
_CGROUP = Path("/sys/fs/cgroup")


class Environment(BaseModel):
    """The environment in which a model was trained. Unknown facts are empty."""

    model_config = ConfigDict(frozen=True)

    python: str
    packages: dict[str, str]
    machine: str
    libc: str
    cpu: str
    nthread: int
    lock_sha256: str
    image: str
    git_commit: str
    git_dirty: bool

    def tags(self) -> dict[str, str]:
        """The known facts as MLflow tags."""
        flat = self.model_dump(include={"python", "machine", "libc", "cpu", "nthread", "lock_sha256", "image"})
        known = {f"env.{name}": str(value) for name, value in flat.items() if value}
        return known | {f"env.{name}": value for name, value in self.packages.items()}


def environment(git_commit: str, nthread: int) -> Environment:
    """Return the environment of this process.

    Args:
        git_commit: Commit of this code, with the suffix `-dirty` if files differ from it. If it is empty,
            MLFLOW_RUN_CONTEXT or else git provides the commit.
        nthread: Number of threads of XGBoost.
    """
    commit = git_commit or _context_commit() or _work_tree_commit()
    lock = _ROOT / "uv.lock"
    return Environment(
        python=platform.python_version(),
        packages={name: installed(name) for name in PACKAGES},
        machine=platform.machine(),
        libc="-".join(platform.libc_ver()),
        cpu=_cpu_model(),
        nthread=nthread,
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        image=os.environ.get("IMAGE_DIGEST", ""),
        git_commit=commit.removesuffix("-dirty"),
        git_dirty=commit.endswith("-dirty"),
    )


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Return the number of processors that this process may use, at least 1. The container's CPU limit applies."""
    available = os.process_cpu_count() or 1
    try:
        if (unified := cgroup / "cpu.max").exists():
            quota, period = unified.read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        limit = int(quota) / int(period)
    except (OSError, ValueError):  # no limit: the file contains "max"
        return available
    return max(1, min(available, int(limit))) if limit > 0 else available


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _context_commit() -> str:
    try:
        context = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT", "{}"))
    except ValueError:
        return ""
    return str(context.get("mlflow.source.git.commit", "")) if isinstance(context, dict) else ""


def _work_tree_commit() -> str:
    if not (_ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
