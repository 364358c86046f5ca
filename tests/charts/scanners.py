"""Findings of kube-score and checkov in rendered manifests, one line each: kind, tool, check and message.

checkov requires older libraries than the project, so uv installs it into its own environment in the cache at the first
use. `python -m tests.charts.scanners FILE…` counts the findings in any rendered manifests.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.charts.schemas import KUBERNETES_VERSIONS
from tools.charts import program
from tools.cluster.cache import CACHE
from tools.cluster.console import run
from tools.cluster.programs import only_one

CHECKOV_VERSION = "3.3.30"
GOOD = 10  # kube-score's grade of a check without findings


def findings(files: list[Path]) -> Counter[str]:
    """Return each finding in the YAML files, with the number of objects that have it."""
    return Counter(sorted(kube_score(files) + checkov(files)))


def kube_score(files: list[Path]) -> list[str]:
    """Return the findings of kube-score's default checks."""
    found = []
    for file in files:  # one at a time, because kube-score relates all objects of a run to each other
        oldest = ".".join(KUBERNETES_VERSIONS[0].split(".")[:2])
        command = [program("kube-score"), "score", f"--kubernetes-version=v{oldest}", "--output-format=json", str(file)]
        # kube-score exits with 1 if it has findings.
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if not done.stdout.startswith("["):
            raise RuntimeError(f"kube-score failed: {done.stdout}{done.stderr}")
        for item in json.loads(done.stdout):
            for check in item["checks"]:
                if not check["skipped"] and check["grade"] < GOOD:
                    words = {comment["summary"] for comment in check["comments"] or [{"summary": ""}]}
                    kind = item["type_meta"]["kind"]
                    found += [f"{kind}: kube-score {check['check']['id']}: {word}" for word in words]
    return found


def checkov(files: list[Path]) -> list[str]:
    """Return the findings of checkov's Kubernetes checks."""
    options = ["--framework=kubernetes", "--output=json", "--compact", "--quiet", "--soft-fail", "--skip-download"]
    named = [f"--file={file}" for file in files]
    results = json.loads(run([_checkov(), *options, *named], timeout_seconds=300))["results"]
    return [
        f"{found['resource'].partition('.')[0]}: checkov {found['check_id']}: {found['check_name']}"
        for found in results["failed_checks"]
    ]


def _checkov() -> Path:
    """Return the program, installing this version if the cache does not have it."""
    folder = CACHE / "checkov" / CHECKOV_VERSION
    found = folder / "bin" / "checkov"
    with only_one("checkov"):
        if not found.exists():
            uv = shutil.which("uv") or CACHE / "uv" / "bin" / "uv"  # where tools/python installs it
            environment = {**os.environ, "UV_TOOL_DIR": str(folder), "UV_TOOL_BIN_DIR": str(folder / "bin")}
            command = [uv, "tool", "install", "--quiet", f"--python={sys.executable}", f"checkov=={CHECKOV_VERSION}"]
            run(command, env=environment, remedy="Check the network and uv's index settings, then run again.")
    return found


if __name__ == "__main__":
    for finding, count in findings([Path(name) for name in sys.argv[1:]]).items():
        print(f"{count:4} {finding}")
