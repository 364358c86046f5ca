"""Cost of `helm template` of our default example, compared with podinfo's chart: `python -m tools.bench.render`.

It measures the CPU time of whole processes in turn, so that the load of the machine affects both. Only the ratio
counts. Helm 3 is measured too, because Helm 4 is part of a large binary here, whose start costs more than either chart.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from tools.charts import MODEL_SERVICE
from tools.cluster.programs import clients
from tools.go import module

PODINFO = "github.com/stefanprodan/podinfo@v1.8.1-0.20250910200901-e86405a8674e"
MOST = 1.5  # x podinfo's CPU time
ROUNDS = 21


def cpu_seconds(helm: Path, *arguments: str) -> float:
    """Return the CPU time of one `helm template`, in seconds."""
    command = [str(helm), "template", "demo", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Print the medians and the ratios; the status is 1 when a ratio is above the budget."""
    ours = [str(MODEL_SERVICE), f"--values={MODEL_SERVICE / 'ci' / 'default-values.yaml'}"]
    theirs = [str(module(PODINFO) / "charts" / "podinfo")]
    ratios = []
    for name in ("helm", "helm3"):
        helm = clients() / name
        pairs = [(cpu_seconds(helm, *ours), cpu_seconds(helm, *theirs)) for _ in range(ROUNDS)]
        mine, podinfo = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
        ratios.append(statistics.median(a / b for a, b in pairs))
        print(
            f"{name:6} model-service {mine:5.1f} ms CPU, podinfo {podinfo:5.1f} ms: {ratios[-1]:.2f} x (at most {MOST})"
        )
    return int(max(ratios) > MOST)


if __name__ == "__main__":
    sys.exit(main())
