"""The command `train` with three workers: one model, registered once, and as good as that of one worker."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from app.model.contract import Contract
from tests.training.conftest import Server
from tools.loopback import free_port
from training.data.dataset import DataSpec, SplitSpec
from training.data.dataset import load as load_alone
from training.data.preprocessing import numbers
from training.data.split import split
from training.errors import InputError
from training.fitting.reference_profile import variable_of
from training.gate import holdout
from training.tracking.mlflow_errors import mlflow_at
from training.workers import shards
from training.workers.group import Group
from training.workers.sharded_data import load

NAME = "three-workers"


def frame(rows: int) -> pd.DataFrame:
    """Return a table with missing values, two classes, and a category that only the last row groups have."""
    drawn = np.random.default_rng(0)
    made = pd.DataFrame(drawn.random((rows, 4)), columns=list("abcd"))
    made.loc[drawn.random(rows) < 0.1, "b"] = np.nan
    made["colour"] = drawn.choice(["red", "green"], rows)
    made.loc[rows - 100 :, "colour"] = "blue"
    made["left"] = np.where(made["a"] + made["c"] * made["d"] + drawn.random(rows) / 2 > 1, "yes", "no")
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("together") / "churn.parquet"
    frame(3000).to_parquet(path, row_group_size=250)
    return path


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same rows and row groups to a folder of three files."""
    folder, rows = tmp_path_factory.mktemp("together") / "churn", frame(3000)
    folder.mkdir()
    for number, (start, end) in enumerate([(0, 500), (500, 2250), (2250, 3000)]):
        rows.iloc[start:end].to_parquet(folder / f"{number}.parquet", row_group_size=250)
    return folder


@dataclass(frozen=True)
class Made:
    """The last output of the workers, the manifest of the first one, and the remaining checkpoints."""

    lines: list[dict[str, Any]]
    manifest: dict[str, Any]
    checkpoints: list[Path]


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Made]:
    """Return a function that trains with three workers, once per data set."""

    @cache
    def made(data: Path) -> Made:
        port, checkpoints = free_port(), tmp_path_factory.mktemp("checkpoints")
        workers = [started(server, data, checkpoints, rank, port) for rank in range(3)]
        said = [worker.communicate(timeout=400) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0, 0], said
        lines = [json.loads(out.splitlines()[-1]) for out, _ in said]
        recorded = server.client.download_artifacts(lines[0]["run_id"], "manifest.json")
        return Made(lines, json.loads(Path(recorded).read_text()), list(checkpoints.iterdir()))

    return made


def started(server: Server, data: Path, checkpoints: Path, rank: int, port: int) -> "subprocess.Popen[str]":
    """Start one worker like a pod of the chart."""
    command = [sys.executable, "-m", "training", "train", f"--model-name={NAME}", f"--data={data}", "--target=left"]
    group = {"DMLC_NUM_WORKER": "3", "DMLC_TASK_ID": str(rank), "DMLC_TRACKER_URI": "localhost"}
    return subprocess.Popen(
        [
            *command,
            "--rounds=30",
            "--checkpoint-rounds=2",
            "--early-stopping-rounds=5",
            "--nthread=1",
            f"--checkpoints={checkpoints}",
        ],
        env=os.environ | group | {"DMLC_TRACKER_PORT": str(port), "MLFLOW_TRACKING_URI": server.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("source", ["data", "lake"])
def test_three_workers_register_one_model_and_record_their_number(
    server: Server, made: Callable[[Path], Made], source: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(source)
    before = len(server.client.search_model_versions(f"name = '{NAME}'"))
    model = made(path)
    lines, manifest = model.lines, model.manifest

    assert [each.get("worker") for each in lines[1:]] == [1, 2]
    assert {each["file_sha256"] for each in lines} == {lines[0]["file_sha256"]}
    assert len(server.client.search_model_versions(f"name = '{NAME}'")) == before + 1
    assert (manifest["world_size"], manifest["shard_rule"]) == (3, "row-group-modulo")
    assert manifest["data"]["rows"] == 3000
    alone = load_alone(DataSpec(source=str(path), target="left"))
    parts = split(alone, SplitSpec())
    assert manifest["data"]["raw_sha256"] == alone.raw_sha256
    assert manifest["split"]["holdout_sha256"] == parts.holdout_sha256, "the rows that one worker alone would hold out"
    assert manifest["split"]["holdout_rows"] == len(parts.holdout)
    assert manifest["metrics"]["holdout_auc"] > 0.9
    assert model.checkpoints == [], "those of a registered model are of no use"
    written = server.model_folder(NAME, lines[0]["version"]) / "contract.json"
    profile = Contract.model_validate_json(written.read_text()).profile
    assert profile
    categories = {column.name: column.categories for column in alone.columns}
    for each in profile.features:
        values = numbers(alone.frame[each.name])[parts.rest]
        wanted = variable_of(each.name, values, categories[each.name], each.importance)
        assert each == wanted, "the distribution of the training rows of all workers"
    with mlflow_at(server.uri):
        held_out = holdout.reload(server.client, lines[0]["run_id"])
    pd.testing.assert_frame_equal(
        held_out.frame.reset_index(drop=True), alone.frame.iloc[parts.holdout].reset_index(drop=True)
    )
    assert held_out.truth.target.tolist() == alone.target[parts.holdout].tolist()


def test_folder_and_file_give_the_same_bytes(made: Callable[[Path], Made], data: Path, lake: Path) -> None:
    of_file, of_folder = made(data), made(lake)

    assert of_folder.lines[0]["file_sha256"] == of_file.lines[0]["file_sha256"]
    assert of_folder.manifest["data"]["sha256"] == of_file.manifest["data"]["sha256"]


@pytest.mark.parametrize("key", [(), ("a", "b")])
@pytest.mark.parametrize("workers", [2, 3])
def test_rows_without_a_target_do_not_change_the_holdout(workers: int, key: tuple[str, ...], tmp_path: Path) -> None:
    drawn = np.random.default_rng(1)
    made = frame(600)
    made["left"] = np.where(drawn.random(600) < 0.2, np.nan, drawn.random(600))
    columns = {name: pa.array(made[name].to_numpy()) for name in made}  # keeps NaN in the target instead of null
    parquet.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=50)
    spec = DataSpec(source=str(tmp_path / "in.parquet"), target="left", skip_unlabelled=True, holdout_key=key)

    found = shards.held_out(spec, SplitSpec(), workers)
    hashes = found.key_hashes

    alone = load_alone(spec)
    rows = split(alone, SplitSpec()).holdout
    pd.testing.assert_frame_equal(found.frame.reset_index(drop=True), alone.frame.iloc[rows].reset_index(drop=True))
    assert found.target.tolist() == alone.target[rows].tolist()
    assert (hashes is None) == (alone.key_hashes is None) == (not key)
    if hashes is not None and alone.key_hashes is not None:
        assert hashes.tolist() == alone.key_hashes[rows].tolist()
    assert found.sha256 != alone.sha256, "it is made of another partition"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": ""}, "name the column to predict"),
        ({"target": "left", "group": "a"}, "several workers would split groups"),
        ({"target": "left", "source": "breast_cancer"}, "is a built-in data set; several workers need the row groups"),
        ({"target": "left", "holdout_key": ("*",)}, "several workers need the names of the key columns"),
        ({"target": "left", "min_category_count": 2}, "no worker has all rows; train with one worker"),
        ({"target": "nobody"}, "column nobody does not exist"),
    ],
)
def test_unsupported_options_of_several_workers_are_named(changes: dict[str, Any], sentence: str, data: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        load(DataSpec(**({"source": str(data)} | changes)), SplitSpec(), Group(0, 3))
