"""The previous version of the chart, from Git, for upgrade tests."""

import io
import subprocess
import tarfile
from pathlib import Path

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run

CHART = "charts/model-service"


def previous_chart(folder: Path) -> Path:
    """Write the chart of the newest commit in which it differs from this checkout into `folder`.

    An upgrade from an equal chart would prove nothing.

    Raises:
        Failure: The history does not contain such a commit, because the clone is too shallow.
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
    raise Failure(f"The Git history has no commit with a different {CHART}. Fetch more of it: git fetch --unshallow.")
