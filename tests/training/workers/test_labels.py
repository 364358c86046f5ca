"""Workers that each read a share of the rows know the same facts about all rows as one worker, or fail alike."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow.parquet import ParquetFile

from tools.loopback import free_port
from training.data.dataset import DataSpec
from training.workers.group import Group
from training.workers.labels import Labels, read_labels

ROWS, WORKERS = 600, 3

# Program of each worker: it reads its share, and prints a digest of what it then knows about all rows.
WORKER = """
import json, sys
from tests.training.workers.test_labels import facts
from training.data.dataset import DataSpec, SplitSpec
from training.errors import TrainingError
from training.workers.group import announced, joined
from training.workers.labels import read_labels
from training.workers.sharded_data import load

own = json.loads(sys.argv[1])
try:
    with joined() as group:
        spec = DataSpec(**own["spec"])
        print(json.dumps(facts(read_labels(spec, group))))
        load(spec, SplitSpec(), group)
except TrainingError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def facts(known: Labels) -> dict[str, Any]:
    """Return what is known about all rows as JSON."""
    return {
        "labelled": known.labelled.tolist(),
        "task": known.task,
        "classes": known.classes,
        "target": known.target.tolist(),
        "hashes": None if known.key_hashes is None else known.key_hashes.tolist(),
        "times": None if known.times is None else [known.times.dated, known.times.values.tolist()],
        "weights": None if known.weights is None else known.weights.tolist(),
    }


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Write four files of three row groups."""
    drawn = np.random.default_rng(2)
    table = pd.DataFrame(drawn.random((ROWS, 3)), columns=["a", "b", "amount"])
    table["number"] = drawn.integers(0, 3, ROWS)
    table["text"] = np.where(np.arange(ROWS) < ROWS - 50, drawn.choice(["no", "yes"], ROWS), "late")
    table["flag"] = table["a"] > 0.5
    table["holes"] = table["amount"].where(drawn.random(ROWS) > 0.2)
    table["day"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(drawn.integers(0, 90, ROWS), unit="D")
    table["weight"] = table["b"] + 0.5
    folder = tmp_path / "lake"
    folder.mkdir()
    for i in range(4):
        table.iloc[i * 150 : (i + 1) * 150].to_parquet(folder / f"{i}.parquet", row_group_size=50)
    return folder


def outcomes(spec_of: Callable[[int], dict[str, Any]]) -> list[tuple[int, str]]:
    """Return the exit code and the last line of each worker."""
    port = free_port()
    group = {"DMLC_NUM_WORKER": str(WORKERS), "DMLC_TRACKER_URI": "localhost", "DMLC_TRACKER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps({"spec": spec_of(rank)})],
            env=os.environ | group | {"DMLC_TASK_ID": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    said = [each.communicate(timeout=300)[0] for each in started]
    return [(each.returncode, text.splitlines()[-1]) for each, text in zip(started, said, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {"target": "number", "holdout_key": ["a", "b"]},
        {"target": "text", "time_column": "day"},
        {"target": "holes", "skip_unlabelled": True, "weight_column": "weight", "holdout_key": ["a"]},
        {"target": "flag"},
    ],
)
def test_shares_of_the_target_give_the_facts_of_one_worker(options: dict[str, Any], lake: Path) -> None:
    others = ["number", "text", "flag", "holes", "day", "weight"]
    used = {options["target"], options.get("time_column"), options.get("weight_column")}
    given = options | {"source": str(lake), "drop": [name for name in others if name not in used]}
    alone = read_labels(DataSpec(**given), Group())

    found = outcomes(lambda _: given)

    wanted = json.loads(json.dumps(facts(alone)))
    assert [code for code, _ in found] == [0] * WORKERS
    assert all(json.loads(line) == wanted for _, line in found)


def test_damaged_row_group_ends_all_workers_with_its_name(lake: Path) -> None:
    path = lake / "2.parquet"
    column = ParquetFile(path).metadata.row_group(1).column(3)
    assert column.path_in_schema == "number"
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))

    found = outcomes(lambda _: {"source": str(lake), "target": "number", "drop": ["day"]})

    assert {code for code, _ in found} == {2}
    (sentence,) = {line for _, line in found}
    assert f"Row group 2 of 3 in {path} cannot be read" in sentence
    assert "write the file again" in sentence


def test_files_that_differ_between_workers_are_named(lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in lake.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    pd.read_parquet(copy / "3.parquet").iloc[:-1].to_parquet(copy / "3.parquet", row_group_size=50)

    found = outcomes(lambda rank: {"source": str(copy if rank == 2 else lake), "target": "number", "drop": ["day"]})

    assert {code for code, _ in found} == {2}
    assert all("3.parquet is not the same for worker 0 and worker 2" in line for _, line in found)


def test_share_without_rows_is_refused(lake: Path) -> None:
    for file in lake.iterdir():
        if file.name != "0.parquet":
            file.unlink()
    pd.read_parquet(lake / "0.parquet").iloc[:0].to_parquet(lake / "1.parquet")
    pd.read_parquet(lake / "0.parquet").iloc[:100].to_parquet(lake / "0.parquet", row_group_size=50)

    found = outcomes(lambda _: {"source": str(lake), "target": "number", "drop": ["day"]})

    assert {code for code, _ in found} == {2}
    assert all("the row groups of worker 2 have no rows" in line for _, line in found)
