"""Three workers train one model with the same bytes each time, even after one of them was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn.metrics import roc_auc_score

from tools.loopback import free_port
from training.data.parquet_table import ParquetTable
from training.data.storage import place
from training.errors import InputError
from training.fitting.boost import boost
from training.fitting.checkpoints import Checkpoints, key
from training.workers.group import Group, joined
from training.workers.row_groups import check_enough, read

COLUMNS = [f"f{i}" for i in range(10)]
PARAMETERS = {"objective": "binary:logistic", "max_depth": 4, "subsample": 0.8, "seed": 3, "nthread": 1}
ROUNDS = 20

# Program of each worker: it boosts on its own row groups. Rank 1 kills itself in the given round.
WORKER = """
import hashlib, json, logging, os, signal, sys
import numpy as np, xgboost as xgb
from training.fitting.boost import boost
from training.fitting.checkpoints import Checkpoints
from training.errors import TrainingError
from training.workers.group import joined
from training.data.parquet_table import ParquetTable
from training.workers.row_groups import numbers, read
from training.data.storage import place

logging.basicConfig(level=logging.INFO)
data, checkpoints, parameters, rounds, dies = json.loads(sys.argv[1])
try:
    with joined() as group:
        source = ParquetTable(place(data))
        table, rows = read(source, group, [*(f"f{i}" for i in range(10)), "y"]), numbers(source, group)
        matrix = xgb.DMatrix(
            np.stack([table[f"f{i}"].to_numpy() for i in range(10)], 1).astype(np.float32),
            label=table["y"].to_numpy(),
        )
        def after(number, metrics):
            if number == dies and group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return False
        kept = Checkpoints(place(checkpoints), 5, "the same data and settings") if checkpoints else None
        booster = boost(parameters, matrix, rounds, group=group, after=after, checkpoints=kept)
        content = bytes(booster.save_raw("ubj"))
        everyones = group.joined(rows)
        print(json.dumps({"file_sha256": hashlib.sha256(content).hexdigest(), "rows": len(rows),
                          "all": sorted(everyones.tolist()) == list(range(len(everyones)))}))
        if group.first and checkpoints:
            open(os.path.join(checkpoints, "model.ubj"), "wb").write(content)
except TrainingError as error:
    sys.exit(str(error))
"""


def table(rows: int, seed: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed)
    frame = pd.DataFrame(drawn.random((rows, 10)), columns=COLUMNS)
    return frame.assign(y=(frame["f0"] + frame["f1"] * frame["f2"] + drawn.random(rows) / 2 > 1).astype(float))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group") / "data"
    folder.mkdir()
    whole = table(12_000, 0)
    for number in range(3):
        rows = whole.iloc[number * 4000 : (number + 1) * 4000]
        rows.to_parquet(folder / f"{number}.parquet", row_group_size=1000)
    return folder


def started(data: Path, rank: int, port: int, checkpoints: str = "", dies: int = -1) -> "subprocess.Popen[str]":
    """Start one of three workers."""
    told = json.dumps([str(data), checkpoints, PARAMETERS, ROUNDS, dies])
    variables = {"DMLC_NUM_WORKER": "3", "DMLC_TRACKER_URI": "localhost", "DMLC_TRACKER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, told],
        env=os.environ | variables | {"DMLC_TASK_ID": str(rank)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(worker: "subprocess.Popen[str]") -> tuple[int, dict[str, Any], str]:
    """Return the exit code, the printed line and the log of a worker."""
    out, err = worker.communicate(timeout=300)
    return worker.returncode, json.loads(out.splitlines()[-1]) if not worker.returncode else {}, err


def trained(data: Path, checkpoints: str = "", dies: int = -1) -> list[tuple[int, dict[str, Any], str]]:
    """Run three workers until they end."""
    port = free_port()
    return [ended(worker) for worker in [started(data, rank, port, checkpoints, dies) for rank in range(3)]]


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the digest and the folder of the model of three workers."""
    folder = tmp_path_factory.mktemp("model")
    workers = trained(data, str(folder))
    assert [code for code, _, _ in workers] == [0, 0, 0], workers
    assert [line["rows"] for _, line, _ in workers] == [4000, 4000, 4000]
    assert all(line["all"] for _, line, _ in workers), "each row is somebody's, once"
    (digest,) = {line["file_sha256"] for _, line, _ in workers}
    return digest, folder


def test_model_of_three_workers_is_as_good_as_that_of_one(undisturbed: tuple[str, Path]) -> None:
    together, whole, fresh = xgb.Booster(model_file=undisturbed[1] / "model.ubj"), table(12_000, 0), table(4000, 1)
    alone = boost(PARAMETERS, xgb.DMatrix(whole[COLUMNS].astype(np.float32), whole["y"]), ROUNDS, group=Group())

    rows = fresh[COLUMNS].to_numpy(np.float32)
    auc = [roc_auc_score(fresh["y"], b.inplace_predict(rows, validate_features=False)) for b in (together, alone)]

    assert abs(auc[0] - auc[1]) < 0.02, auc


@pytest.mark.long
def test_lost_worker_is_reported_and_a_restart_gives_the_same_bytes(
    data: Path, undisturbed: tuple[str, Path], tmp_path: Path
) -> None:
    killed = trained(data, str(tmp_path), dies=13)

    assert killed[1][0] == -signal.SIGKILL
    for rank in (0, 2):
        code, _, log = killed[rank]
        assert code == 1
        assert f"Worker {rank} of 3 lost another one, whose own log contains the cause" in log.splitlines()[-1]
        assert "continue from the last checkpoint" in log.splitlines()[-1]
    again = trained(data, str(tmp_path))
    assert [code for code, _, _ in again] == [0, 0, 0], again
    assert "continuing after round 10 of 20, from the checkpoint" in again[0][2]
    assert {line["file_sha256"] for _, line, _ in again} == {undisturbed[0]}


def test_single_worker_continues_from_a_checkpoint_with_the_same_bytes(data: Path, tmp_path: Path) -> None:
    with joined() as group:
        assert group == Group()
    table = read(ParquetTable(place(str(data))), group, [*COLUMNS, "y"])
    matrix = xgb.DMatrix(table.select(COLUMNS).to_pandas().astype(np.float32), table["y"].to_numpy())
    kept = Checkpoints(place(str(tmp_path)), 4, key(parameters=PARAMETERS, rounds=ROUNDS))

    whole = boost(PARAMETERS, matrix, ROUNDS, group=group)
    boost(PARAMETERS, matrix, ROUNDS, group=group, checkpoints=kept, after=lambda number, _: number == 13)
    resumed = boost(PARAMETERS, matrix, ROUNDS, group=group, checkpoints=kept)

    assert resumed.save_raw("ubj") == whole.save_raw("ubj")
    assert Checkpoints(place(str(tmp_path)), 4, key(parameters=PARAMETERS, rounds=21)).last() is None
    kept.clear()
    assert kept.last() is None


def test_metrics_of_a_round_equal_xgboost() -> None:
    frame = table(500, 2)
    matrix = xgb.DMatrix(frame[COLUMNS], frame["y"])
    parameters = PARAMETERS | {"eval_metric": ["auc", "logloss"], "seed_per_iteration": True}
    seen: list[dict[str, float]] = []
    wanted: dict[str, dict[str, list[float]]] = {}

    def after(_: int, metrics: dict[str, float]) -> bool:
        seen.append(metrics)
        return False

    boost(parameters, matrix, 3, group=Group(), watched=((matrix, "train"),), after=after)
    xgb.train(parameters, matrix, 3, evals=[(matrix, "train")], evals_result=wanted, verbose_eval=False)

    for name, values in wanted["train"].items():
        assert [each[f"train-{name}"] for each in seen] == pytest.approx(values, abs=1e-5)


def test_too_few_row_groups_and_csv_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 12 row groups for 13 workers: write it with smaller row groups"):
        check_enough(ParquetTable(place(str(data))), Group(0, 13))
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="is not a Parquet file, which folders and several workers require"):
        ParquetTable(place(str(tmp_path / "a.csv")))


def test_worker_retries_while_the_first_one_is_stopping(data: Path, undisturbed: tuple[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as going:
        port = going.getsockname()[1]
        workers = [started(data, rank, port) for rank in (1, 2)]
        for _ in workers:  # each connects to a worker that accepts the connection and ends
            going.accept()[0].close()
    workers.insert(0, started(data, 0, port))

    said = [ended(worker) for worker in workers]

    assert [code for code, _, _ in said] == [0, 0, 0], said
    assert {line["file_sha256"] for _, line, _ in said} == {undisturbed[0]}
    assert all("the first worker is unreachable" in log for _, _, log in said[1:])


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DMLC_NUM_WORKER": "3"}, "DMLC_TASK_ID is missing: several workers need the four"),
        ({"DMLC_NUM_WORKER": "many"}, "DMLC_NUM_WORKER must be a whole number"),
    ],
)
def test_missing_variables_are_named(variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(InputError, match=sentence), joined():
        pass
