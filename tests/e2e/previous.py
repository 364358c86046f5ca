"""The chart as people have it installed before they upgrade to this one, from git."""

import io
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.cache import ROOT
from tests.cluster.console import Failure, run

CHART = "charts/model-service"


def previous_chart(folder: Path) -> Path:
    """Write the chart of the newest commit in which it is not the chart of this checkout into `folder`.

    That is the previous commit when the last one changed the chart; an upgrade from an equal chart would show nothing.

    Raises:
        Failure: git knows no such commit, because the clone is too shallow.
    """
    for commit in run(["git", "rev-list", "HEAD", "--", CHART], cwd=ROOT).split():
        same = ["git", "diff", "--quiet", commit, "--", CHART]
        if subprocess.run(same, cwd=ROOT, check=False).returncode:
            archive = subprocess.run(
                ["git", "archive", commit, CHART], cwd=ROOT, check=True, capture_output=True
            ).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
                packed.extractall(folder, filter="data")
            return folder / CHART
    raise Failure(f"git has no commit with another {CHART}. Fetch more history: git fetch --unshallow.")
