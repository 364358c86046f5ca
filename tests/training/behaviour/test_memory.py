"""The memory of a training in proportion to the float32 matrix of its rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from tests.training.conftest import Server

ROWS, COLUMNS = 400_000, 50
FIXED_MIB = 350  # mostly imports


def write_table(path: Path) -> None:
    """Write 64-bit numbers, in row groups of a quarter of the rows."""
    drawn = np.random.default_rng(0)
    numbers = {f"f{i}": drawn.standard_normal(ROWS) for i in range(COLUMNS)}
    table = pa.table(numbers | {"y": (numbers["f0"] + drawn.standard_normal(ROWS) > 0).astype(np.int64)})
    parquet.write_table(table, path, row_group_size=ROWS // 4)


# A new process begins with the peak of the one that it is a copy of, so a small one in between starts the training.
MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_one_worker_needs_little_more_than_its_float32_matrix(server: Server, tmp_path: Path) -> None:
    write_table(tmp_path / "in.parquet")
    options = ["--model-name=small", f"--data={tmp_path}/in.parquet", "--target=y", "--rounds=5", "--nthread=1"]

    command = [sys.executable, "-c", MEASURED, "-m", "training", "train", *options]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    peak_kib = int(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)

    share = ROWS * COLUMNS * 4 / 2**20
    assert peak_kib / 2**10 < 2.5 * share + FIXED_MIB
