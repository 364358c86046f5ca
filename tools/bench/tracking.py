"""How fast MLflow's server starts and takes runs, and what it needs: `python -m tools.bench.tracking`, on a cluster.

Once as it is by default (SQLite and a volume, one pod) and once as values-production.yaml has it (PostgreSQL and S3,
two pods). Prints a table: seconds from a pod's creation to ready, MiB of each process, runs per second of 1 and of 8
clients in a pod, each run with a parameter, two metrics and an artifact of 64 KiB. Only ratios count where others work
on the machine as well.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tools.cluster.access import Access
from tools.cluster.production import PODS, install_mlflow, install_profiles, logging_runs, stores, wait_until_ready
from tools.cluster.stores import make_bucket

RUNS = {1: 40, 8: 160}  # by clients
# What the kernel calls resident and this process' own, of each Python process in the container.
MEMORY = """
import pathlib
for process in sorted(pathlib.Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
    words = (process / "cmdline").read_text().split("\\0")
    if "-c" not in words[:2]:
        lines = (process / "smaps_rollup").read_text().splitlines()
        print(*(int(line.split()[1]) // 1024 for line in lines if line.startswith(("Rss:", "Pss:"))))
"""


@contextmanager
def installed(access: Access, name: str) -> Iterator[str]:
    """Install MLflow with one of the two kinds of stores, yield its namespace, and take it away."""
    with stores(access, f"bench-{name}") as namespace, tempfile.TemporaryDirectory() as folder:
        make_bucket(access, namespace)
        if name == "sqlite":
            install_profiles(access, namespace, Path(folder), ("existing-prometheus",))
        else:
            install_mlflow(access, namespace, Path(folder))
        yield namespace


def start_seconds(access: Access, namespace: str) -> list[float]:
    """Return how long each pod took from its creation to ready."""
    found = []
    for pod in access.get_all("pod", PODS, namespace):
        ready = next(each for each in pod["status"]["conditions"] if each["type"] == "Ready")
        times = (ready["lastTransitionTime"], pod["metadata"]["creationTimestamp"])
        end, begin = (datetime.fromisoformat(text) for text in times)
        found.append((end - begin).total_seconds())
    return found


def main() -> None:
    """Measure both and print the table."""
    access = Access(Path(os.environ["KUBECONFIG"]))
    print("| stores | ready after, s | processes, RSS / PSS MiB | runs/s, 1 client | runs/s, 8 clients |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("sqlite", "production"):
        with installed(access, name) as namespace:
            pods = wait_until_ready(access, namespace)
            seconds = ", ".join(f"{each:.0f}" for each in start_seconds(access, namespace))
            rates = []
            for clients, runs in RUNS.items():
                with logging_runs(access, namespace, clients, runs) as lines:
                    pass
                rates.append(lines[-1]["per_second"])
            in_pod = ["exec", pods[0], "--namespace", namespace, "--container=mlflow", "--", "python3", "-c", MEMORY]
            memory = ", ".join(line.replace(" ", " / ") for line in access.kubectl(*in_pod).splitlines())
            print(f"| {name}, {len(pods)} pods | {seconds} | {memory} | {rates[0]} | {rates[1]} |", flush=True)


if __name__ == "__main__":
    main()
