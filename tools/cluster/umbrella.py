"""Make a copy of charts/observability that Helm renders where chart registries cannot be reached.

Helm refuses a chart while a dependency is missing, even one that is switched off. In the copy a placeholder with the
pinned name and version stands in for kube-prometheus-stack; render it with `kube-prometheus-stack.enabled=false`.
KPS_CHART=<file>.tgz puts the real chart there instead, and so does the package that `helm dependency build` fetched.
Standard library only: the local cluster's scripts use it too.
"""

import os
import re
import shutil
import sys
import tarfile
from pathlib import Path

UMBRELLA = Path(__file__).parents[2] / "charts" / "observability"
DEPENDENCY = "kube-prometheus-stack"


def pinned_version() -> str:
    """Return the version of kube-prometheus-stack that the umbrella pins.

    Raises:
        ValueError: Chart.yaml has no such dependency.
    """
    chart = (UMBRELLA / "Chart.yaml").read_text()
    found = re.search(rf"- name: {DEPENDENCY}\n\s+version: (\S+)", chart)
    if not found:
        raise ValueError(f"{UMBRELLA / 'Chart.yaml'} does not pin {DEPENDENCY}")
    return found[1]


def stack_package() -> Path | None:
    """Return the package of the real kube-prometheus-stack: KPS_CHART, or the one fetched into the umbrella, if any."""
    if named := os.environ.get("KPS_CHART"):
        return Path(named)
    fetched = UMBRELLA / "charts" / f"{DEPENDENCY}-{pinned_version()}.tgz"
    return fetched if fetched.exists() else None


def copy_umbrella(target: Path) -> Path:
    """Copy the umbrella to `target`, a folder that is replaced, complete its dependencies and return `target`.

    Raises:
        ValueError: KPS_CHART names a chart or version that differs from the umbrella's pin.
        OSError, tarfile.TarError: KPS_CHART cannot be read, or `target` cannot be written.
    """
    version = pinned_version()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(UMBRELLA, target, ignore=shutil.ignore_patterns("*.tgz"))
    placed = target / "charts" / DEPENDENCY
    if archive := stack_package():
        with tarfile.open(archive) as chart:
            chart.extractall(target / "charts", filter="data")
        metadata = placed / "Chart.yaml"
        if not metadata.is_file() or f"\nversion: {version}\n" not in metadata.read_text():
            raise ValueError(f"KPS_CHART={archive} is not {DEPENDENCY} {version}, which the umbrella pins")
    else:
        placed.mkdir()
        (placed / "Chart.yaml").write_text(f"apiVersion: v2\nname: {DEPENDENCY}\nversion: {version}\n")
    return target


if __name__ == "__main__":
    print(copy_umbrella(Path(sys.argv[1])))
