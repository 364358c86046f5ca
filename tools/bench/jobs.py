"""Training and batch scoring compared with plain XGBoost on the same data, in one run: `python -m tools.bench.jobs`.

Each is a process of its own, measured from start to end, like the script that somebody without this project would
write. They take turns, and the fastest run of each counts. Training uses a real MLflow server on this machine. The
table is in docs/how-to/jobs.md.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tools.cluster.cache import ROOT
from tools.loopback import answers, free_port, until

PAGE = ROOT / "docs" / "how-to" / "jobs.md"
MARKED = re.compile(r"(<!-- benchmark: .*? -->\n).*?(<!-- benchmark ends -->)", re.DOTALL)
MODEL = "bench"
COLUMNS = 50

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
path, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
drawn = np.random.default_rng(0)
values = {f"f{i}": drawn.random(rows, dtype=np.float32) for i in range(columns)}
score = values["f0"] + values["f1"] * values["f2"] + drawn.random(rows, dtype=np.float32) / 2
pq.write_table(pa.table(values | {"y": (score > 1).astype(np.int64)}), path, row_group_size=100_000)
"""
# What one writes without this project: the same split share, parameters and rounds, and nothing recorded.
PLAIN_TRAINING = """
import sys, numpy as np, pandas as pd, xgboost as xgb
data, model, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
frame = pd.read_parquet(data)
chosen = np.random.default_rng(0).random(len(frame)) < 0.8
target = frame.pop("y").to_numpy(np.float32)
parameters = {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "max_depth": 4,
              "learning_rate": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "nthread": 1}
train = xgb.DMatrix(frame[chosen], target[chosen], nthread=1)
booster = xgb.train(parameters, train, rounds, evals=[(train, "train")], verbose_eval=False)
booster.predict(xgb.DMatrix(frame[~chosen], nthread=1))
booster.save_model(model)
"""
PLAIN_SCORING = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq, xgboost as xgb
data, model, out, columns = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
names = [f"f{i}" for i in range(columns)]
table = pq.read_table(data, columns=names)
booster = xgb.Booster({"nthread": 1}, model_file=model)
rows = np.stack([table[name].to_numpy() for name in names], axis=1)
answer = booster.predict(xgb.DMatrix(rows, feature_names=names, nthread=1))
pq.write_table(pa.table({"row": np.arange(len(answer)), "prediction": answer}), out)
"""


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run an MLflow server; yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/files"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log, subprocess.Popen(
        command, env=environment, stdout=log, stderr=log
    ) as server:  # fmt: skip
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/health"), seconds=180)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def seconds(command: list[str], **environment: str) -> float:
    """Run a process to its end; return how long it took."""
    # As in the images, which hold the bytecode of all packages: the first turn writes it, the fastest counts.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=inherited | environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - begin


def measure(rows: int, rounds: int, turns: int) -> dict[str, float]:
    """Return the fastest of each, in seconds."""
    best: dict[str, float] = {}

    def take(name: str, command: list[str], **environment: str) -> None:
        best[name] = min(best.get(name, float("inf")), seconds(command, **environment))

    with tempfile.TemporaryDirectory() as work, mlflow_server(Path(work)) as uri:
        data, plain = f"{work}/data.parquet", f"{work}/plain.ubj"
        subprocess.run([sys.executable, "-c", MAKE, data, str(rows), str(COLUMNS)], check=True)
        train = ["-m", "training", "train", f"--model-name={MODEL}", f"--data={data}", "--target=y", "--task=binary"]
        train += [f"--rounds={rounds}", "--early-stopping-rounds=0", "--nthread=1", f"--keep-dir={work}/kept"]
        score = ["-m", "training", "score", f"--model-uri=models:/{MODEL}/1", f"--data={data}"]
        for turn in range(turns):
            take("training, plain", ["-c", PLAIN_TRAINING, data, plain, str(rounds)])
            take("training", train, MLFLOW_TRACKING_URI=uri)
            take("scoring, plain", ["-c", PLAIN_SCORING, data, plain, f"{work}/out.parquet", str(COLUMNS)])
            take("scoring", [*score, f"--output={work}/out{turn}"], MLFLOW_TRACKING_URI=uri)
    return best


def report(rows: int, rounds: int, best: dict[str, float], load: float) -> str:
    """Return the table."""
    lines = [
        f"{rows:,} rows of {COLUMNS} columns, {rounds} trees of depth 4, one thread, whole processes; "
        f"{datetime.now(UTC):%Y-%m-%d}, machine load {load:.2f}.",
        "",
        "| | plain XGBoost and pyarrow, s | with everything, s | ratio | allowed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, allowed in (("training", "1.15"), ("scoring", "1.30")):
        plain, ours = best[f"{name}, plain"], best[name]
        lines.append(f"| {name} | {plain:.1f} | {ours:.1f} | {ours / plain:.2f} | {allowed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the table into the page when it was the full size."""
    parser = argparse.ArgumentParser(description="Compare training and scoring with plain XGBoost.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    best = measure(options.rows, options.rounds, options.turns)
    table = report(options.rows, options.rounds, best, load)
    print(json.dumps(best))
    print(table)
    if options.rows == parser.get_default("rows"):
        PAGE.write_text(MARKED.sub(lambda match: match[1] + table + match[2], PAGE.read_text()))


if __name__ == "__main__":
    main()
