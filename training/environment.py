"""The environment of a run: threads, processor, packages and code. It is recorded because it can change the model."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from importlib.metadata import version as installed
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PACKAGES = ("xgboost-cpu", "numpy", "pandas", "pyarrow", "scikit-learn", "mlflow-skinny", "optuna")
ROOT = Path(__file__).parents[1]
LOCK = ROOT / "uv.lock"
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
    code_sha256: str = ""  # of the output of sha256sum for the Python files of app and training
    packages_sha256: str = ""  # of the result of installed_packages

    def tags(self) -> dict[str, str]:
        """The known facts as MLflow tags."""
        flat = self.model_dump(exclude={"packages", "git_commit", "git_dirty"})
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
    return Environment(
        python=platform.python_version(),
        packages={name: installed(name) for name in PACKAGES},
        machine=platform.machine(),
        libc="-".join(platform.libc_ver()),
        cpu=_cpu_model(),
        nthread=nthread,
        lock_sha256=hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else "",
        image=os.environ.get("IMAGE_DIGEST", ""),
        git_commit=commit.removesuffix("-dirty"),
        git_dirty=commit.endswith("-dirty"),
        code_sha256=_code_digest(),
        packages_sha256=hashlib.sha256(installed_packages().encode()).hexdigest(),
    )


def installed_packages() -> str:
    """Return a line for each installed package, with its version and the digest of its files.

    The digest is that of the lines of RECORD for the files of the package itself. It is the same wherever the package
    is installed, and differs if another wheel of the same version is.
    """
    found: dict[str, str] = {}
    for each in distributions():
        if each.name:  # a damaged installation has none
            digest = hashlib.sha256("".join(_own_files(each)).encode()).hexdigest()
            # The first on the path is the one that is imported.
            found.setdefault(each.name.lower().replace("_", "-"), f"{each.version} sha256:{digest}")
    return "".join(f"{name}=={rest}\n" for name, rest in sorted(found.items()))


def _own_files(package: Distribution) -> Iterator[str]:
    """Yield the lines of RECORD without those that depend on the installer and the folder."""
    for line in sorted((package.read_text("RECORD") or "").splitlines(keepends=True)):
        if ",sha256=" in line and ".dist-info/" not in line and not line.startswith(".."):
            yield line


def _code_digest() -> str:
    files = sorted(file for package in ("app", "training") for file in (ROOT / package).rglob("*.py"))
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(ROOT)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
