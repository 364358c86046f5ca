"""The memory of a training in proportion to the float32 matrix of its rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.training.conftest import Server
from tools.loopback import free_port

ROWS, COLUMNS = 400_000, 50
FIXED_MIB = {1: 350, 2: 400}  # mostly imports, and the connections of several workers
BYTES_OF_ALL_ROWS = 100  # per row, for the split of several workers


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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_needs_little_more_than_its_float32_matrix(workers: int, server: Server, tmp_path: Path) -> None:
    write_table(tmp_path / "in.parquet")
    options = ["--model-name=small", f"--data={tmp_path}/in.parquet", "--target=y", "--rounds=5", "--nthread=1"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    if workers > 1:
        environment |= {"DMLC_NUM_WORKER": str(workers), "DMLC_TRACKER_URI": "localhost"}
        environment |= {"DMLC_TRACKER_PORT": str(free_port())}

    command = [sys.executable, "-c", MEASURED, "-m", "training", "train", *options]
    started = [
        subprocess.Popen(command, env=environment | {"DMLC_TASK_ID": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(workers)
    ]
    peaks = [int(process.communicate(timeout=400)[0]) / 2**10 for process in started]

    share = ROWS // workers * COLUMNS * 4 / 2**20
    of_all_rows = ROWS * BYTES_OF_ALL_ROWS / 2**20 if workers > 1 else 0
    assert max(peaks) < 2.5 * share + of_all_rows + FIXED_MIB[workers]
