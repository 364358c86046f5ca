"""Compare the service with a no-op FastAPI route and the naive FastAPI app: `python -m tests.bench`.

One process on one core, wrk on another, interleaved rounds in one run: the machine's mood is in every figure, so only
the ratios count. Needs wrk and taskset (Debian: apt-get install wrk util-linux) and two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.contract import MODEL_FILE
from tests.app.harness import SERVICE, answers, free_port, process, until, write_contract

QUIET_LOAD = 0.3  # of the last minute, before we begin: above it, others used the cores
SERVER_CORE, CLIENT_CORE = 0, 1
LOADS = ((1, 1), (1, 16), (1, 64), (100, 16), (1000, 4))  # rows, connections
PACKAGES = ("fastapi", "numpy", "pydantic", "starlette", "uvicorn", "xgboost-cpu")
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PROMETHEUS_DISABLE_CREATED_SERIES": "True"}


@dataclass(frozen=True)
class Server:
    """A running server on its core."""

    name: str
    port: int
    pid: int
    ready_seconds: float

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        line = next(x for x in Path(f"/proc/{self.pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--output", type=Path, help="JSON file; refused when the machine is not quiet")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if arguments.output and load > QUIET_LOAD:
        print(f"The load is {load}, above {QUIET_LOAD}: wait until the machine is quiet.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        bodies = model(folder / "model", arguments.trees)
        for rows, body in bodies.items():
            (folder / f"{rows}.json").write_bytes(body)
        servers = [stack.enter_context(each) for each in start(folder)]
        found: dict[str, dict[str, list[dict[str, float]]]] = {}
        for _ in range(arguments.rounds):
            for rows, connections in LOADS:
                for server in servers:
                    measured = measure(server, folder / f"{rows}.json", connections, arguments.seconds)
                    found.setdefault(f"{rows} x {connections}", {}).setdefault(server.name, []).append(measured)
        result = {
            "load_before": load,
            "trees": arguments.trees,
            "versions": {package: version(package) for package in PACKAGES},
            "ready_seconds": {server.name: round(server.ready_seconds, 2) for server in servers},
            "resident_mib": {server.name: round(server.resident_mib()) for server in servers},
            "loads": {name: summary(each) for name, each in found.items()},
        }
    show(result)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def model(folder: Path, trees: int) -> dict[int, bytes]:
    """Save a model of 30 features in MLflow's format; return a body of split form per number of rows."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost
        import xgboost as xgb
        from mlflow.models import infer_signature
        from sklearn.datasets import load_breast_cancer

        data = load_breast_cancer(as_frame=True)
        matrix = xgb.DMatrix(data.data, label=data.target)
        booster = xgb.train({"objective": "binary:logistic", "max_depth": 4, "eta": 0.05, "nthread": 1}, matrix, trees)
        signature = infer_signature(data.data, booster.predict(matrix))
        extra: dict[str, Any] = {"signature": signature, "pip_requirements": ["xgboost-cpu"]}
        mlflow.xgboost.save_model(booster, str(folder), model_format="ubj", **extra)
    write_contract(folder)
    columns, values = data.data.columns.tolist(), data.data.to_numpy().tolist()
    return {
        rows: json.dumps({"columns": columns, "data": [values[i % len(values)] for i in range(rows)]}).encode()
        for rows in {rows for rows, _ in LOADS}
    }


def start(folder: Path) -> Iterator[Any]:
    """Yield a context for each server."""
    ours = {
        "MODEL_SERVICE_MODEL_URI": (folder / "model").as_uri(),
        "MODEL_SERVICE_CACHE_DIR": str(folder / "cache"),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(folder / "termination"),
        "MODEL_SERVICE_HOST": "127.0.0.1",
    }
    port = free_port()
    yield running("model-service", SERVICE, port, "/health/ready", folder, ours | {"MODEL_SERVICE_PORT": str(port)})
    for name in ("noop", "naive"):
        port = free_port()
        arguments = ["-m", "uvicorn", "--factory", f"tests.bench.rivals:{name}", "--port", str(port), "--no-access-log"]
        rival = {"BENCH_MODEL": str(folder / "model" / MODEL_FILE)}
        yield running(name, arguments, port, "/openapi.json", folder, rival)


@contextmanager
def running(
    name: str, arguments: list[str], port: int, path: str, folder: Path, environment: dict[str, str]
) -> Iterator[Server]:
    begin = time.monotonic()
    with process(arguments, folder / f"{name}.log", **THREADS, **environment) as started:
        os.sched_setaffinity(started.pid, {SERVER_CORE})
        until(lambda: answers(f"http://127.0.0.1:{port}{path}"))
        yield Server(name, port, started.pid, time.monotonic() - begin)


def measure(server: Server, body: Path, connections: int, seconds: int) -> dict[str, float]:
    """Put one load on one server; every answer must be a good one."""
    script, url = Path(__file__).with_name("load.lua"), f"http://127.0.0.1:{server.port}/predict"
    wrk = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{connections}"]
    subprocess.run([*wrk, "-d1s", "-s", str(script), url, "--", str(body)], check=True, capture_output=True)
    cpu = server.cpu_seconds()
    output = subprocess.run(
        [*wrk, f"-d{seconds}s", "-s", str(script), url, "--", str(body)], check=True, capture_output=True, text=True
    ).stdout
    cpu = server.cpu_seconds() - cpu
    said: dict[str, float] = json.loads(output.strip().rpartition("\n")[2])
    if said["failed"] or not said["requests"]:
        raise SystemExit(f"{server.name}: {said['failed']} of {said['requests']} requests failed")
    rate = said["requests"] / said["seconds"]
    return {
        "requests_per_second": rate,
        "cpu_us": cpu / said["requests"] * 1e6,
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
    }


def summary(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the medians of each server's rounds, and the median of the ratios within the rounds."""
    result = {}
    for name, rounds in found.items():
        result[name] = {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]}
        rates = [each["requests_per_second"] for each in rounds]
        result[name]["to_noop"] = round(
            statistics.median(
                rate / noop["requests_per_second"] for rate, noop in zip(rates, found["noop"], strict=True)
            ),
            2,
        )
    return result


def show(result: dict[str, Any]) -> None:
    """Print the ratios, and the figures they come from."""
    print(f"{result['trees']} trees; load before: {result['load_before']}")
    for load, servers in result["loads"].items():
        print(f"\n{load} (rows x connections)")
        for name, it in servers.items():
            print(
                f"  {name:14} {it['to_noop']:6.2f} x noop {it['requests_per_second']:9.0f} req/s"
                f" {it['cpu_us']:8.0f} us CPU  p50 {it['p50_ms']:8.2f} ms  p99 {it['p99_ms']:8.2f} ms"
            )
    print(f"\nready after, s: {result['ready_seconds']}\nresident, MiB:  {result['resident_mib']}")


if __name__ == "__main__":
    sys.exit(main())
