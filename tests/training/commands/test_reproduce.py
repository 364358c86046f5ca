"""Retrained versions: identical bytes, or a list of the differences."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.training.conftest import Result, Server
from tools.cluster.cache import CACHE
from tools.cluster.programs import only_one

NAME = "reproduced"
OTHER_XGBOOST = "3.3.0"
Reproduce = Callable[..., tuple[int, dict[str, Any], list[str]]]
ROOT = Path(__file__).resolve().parents[3]
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table with numbers, missing values and categories."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.integers(0, 1000, (300, 3)) / 8, columns=["age", "income", "height"])
    frame["colour"] = draw.choice(["red", "green", "blue"], 300)
    frame.loc[::7, "income"] = np.nan
    frame["left"] = np.where(
        frame["age"] + 40 * (frame["colour"] == "red") + draw.integers(0, 40, 300) > 90, "yes", "no"
    )
    file = tmp_path_factory.mktemp("table") / "churn.csv"
    frame.to_csv(file, index=False)
    return file


@pytest.fixture
def version(server: Server, trained: Callable[..., dict[str, Any]], table: Path, tmp_path: Path) -> dict[str, Any]:
    """Train a version from its own data file, both of which a test may change."""
    own = tmp_path / "churn.csv"
    shutil.copy(table, own)
    options = (f"--data={own}", "--target=left", "--rounds=8", "--early-stopping-rounds=0", "--subsample=0.7")
    return trained(server, NAME, *options) | {"data": own}


@pytest.fixture
def reproduce(server: Server, command: Callable[..., Result]) -> Reproduce:
    def reproduce(*arguments: str) -> tuple[int, dict[str, Any], list[str]]:
        result = command("reproduce", f"--mlflow-tracking-uri={server.uri}", *arguments)
        return result.code, result.published if result.stdout else {}, result.messages

    return reproduce


def named(answer: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["group"], each["name"]) for each in answer["differences"]}


def test_reproduction_has_the_same_bytes(server: Server, version: dict[str, Any], reproduce: Reproduce) -> None:
    code, answer, _ = reproduce(version["uri"], "--log-outcome", "--nthread=2")

    assert (code, answer["outcome"], answer["differences"]) == (0, "identical", [])
    assert answer["file_sha256"] == answer["recorded_file_sha256"] == version["file_sha256"]
    assert answer["predictions"] == {"rows": 60, "changed": 0, "largest": 0}
    assert {values["recorded"] == values["here"] for values in answer["metrics"].values()} == {True}
    tags = server.client.get_model_version(NAME, version["version"]).tags
    assert tags["reproduce.outcome"] == "identical"
    newest = server.client.get_registered_model(NAME).latest_versions[0].version
    assert str(newest) == version["version"]  # nothing was registered

    assert reproduce(version["run_id"])[:2] == (0, answer)


def test_changed_row_is_named(version: dict[str, Any], reproduce: Reproduce) -> None:
    lines = version["data"].read_text().splitlines()
    first = lines[1].split(",")
    lines[1] = ",".join(["124.875", *first[1:-1], "no" if first[-1] == "yes" else "yes"])
    version["data"].write_text("\n".join(lines) + "\n")

    code, answer, messages = reproduce(version["uri"])

    assert (code, answer["outcome"]) == (5, "differs")
    assert named(answer) >= {("data", "raw_sha256"), ("data", "sha256")}
    assert {group for group, _ in named(answer)} == {"data"}
    assert answer["predictions"]["changed"] > 0 < answer["predictions"]["largest"]
    assert "because of the data: reproduce with the original data" in messages[-1]


def test_changed_cell_names_its_file_and_its_column(
    server: Server, trained: Callable[..., dict[str, Any]], table: Path, reproduce: Reproduce, tmp_path: Path
) -> None:
    frame = pd.read_csv(table)
    folder = tmp_path / "churn"
    folder.mkdir()
    frame[:150].to_parquet(folder / "a.parquet")
    frame[150:].to_parquet(folder / "b.parquet")
    made = trained(server, NAME, f"--data={folder}", "--target=left", "--rounds=2", "--early-stopping-rounds=0")

    frame["height"] = frame["height"].where(frame.index != 200, 999.0)
    frame[150:].to_parquet(folder / "b.parquet")
    _, answer, _ = reproduce(made["uri"])

    changed = {("data", name) for name in ("raw_sha256", "sha256", "file b.parquet", "column height")}
    assert named(answer) == changed


def test_moved_data_are_read_from_their_new_place(version: dict[str, Any], reproduce: Reproduce) -> None:
    moved = version["data"].rename(version["data"].with_name("moved.csv"))

    code, _, messages = reproduce(version["uri"])
    assert code == 2
    assert str(version["data"]) in messages[-1]

    assert reproduce(version["uri"], f"--moved-data={moved}")[0] == 0


def test_tampered_seed_is_named(server: Server, version: dict[str, Any], reproduce: Reproduce, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(server.uri)
    file = Path(mlflow.artifacts.download_artifacts(run_id=version["run_id"], artifact_path="manifest.json"))
    manifest = json.loads(file.read_text())
    manifest["params"]["seed"] = 5
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    server.client.log_artifact(version["run_id"], str(tmp_path / "manifest.json"))

    code, answer, messages = reproduce(version["uri"])

    assert (code, answer["outcome"]) == (5, "differs")
    assert [tuple(each.values()) for each in answer["differences"]] == [("settings", "seed", "0", "5")]
    assert "because of the settings: the manifest contradicts the run's parameters" in messages[-1]


def test_changed_file_in_the_registry_is_named(
    server: Server,
    version: dict[str, Any],
    trained: Callable[..., dict[str, Any]],
    table: Path,
    reproduce: Reproduce,
) -> None:
    options = (f"--data={table}", "--target=left", "--rounds=3", "--early-stopping-rounds=0")
    other = trained(server, NAME, *options)["version"]
    changed = server.model_folder(NAME, version["version"]) / "model.ubj"
    shutil.copy(server.model_folder(NAME, other) / "model.ubj", changed)

    code, answer, messages = reproduce(version["uri"])

    assert (code, answer["file_sha256"]) == (5, version["file_sha256"])  # the digest before the change
    assert named(answer) == {("registry", "model.ubj")}
    assert "find out who changed it" in messages[-1]


def test_different_package_and_changed_code_name_their_files(
    server: Server, trained: Callable[..., dict[str, Any]], table: Path, reproduce: Reproduce, tmp_path: Path
) -> None:
    options = (f"--data={table}", "--target=left", "--rounds=2", "--early-stopping-rounds=0")
    made = trained(server, NAME, *options, f"--git-commit={'1' * 40}-dirty")
    mlflow.set_tracking_uri(server.uri)
    file = Path(mlflow.artifacts.download_artifacts(run_id=made["run_id"], artifact_path="environment/packages.txt"))
    changed = re.sub("^pandas==[^ ]*", "pandas==1.0", file.read_text(), flags=re.MULTILINE)
    (tmp_path / "packages.txt").write_text(changed)
    server.client.log_artifact(made["run_id"], str(tmp_path / "packages.txt"), "environment")

    code, answer, messages = reproduce(made["uri"])

    assert code == 0
    assert named(answer) >= {("environment", "pandas"), ("code", "git_commit")}
    assert {name for group, name in named(answer) if group == "environment"} == {"pandas"}
    files = ["environment/packages.txt", "environment/uncommitted.diff"]
    assert answer["artifacts"] == files
    assert messages[-1].endswith(f"; the run contains {', '.join(files)}.")


@pytest.mark.long
def test_different_library_version_is_named(server: Server, version: dict[str, Any]) -> None:
    folder = CACHE / f"xgboost-{OTHER_XGBOOST}"
    uv = shutil.which("uv") or CACHE / "uv" / "bin" / "uv"  # where tools/python puts it
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", folder, "--no-deps"]
    with only_one(folder.name):
        if not folder.exists():
            subprocess.run([*install, f"xgboost-cpu=={OTHER_XGBOOST}"], check=True)

    done = subprocess.run(
        [sys.executable, "-m", "training", "reproduce", version["uri"], f"--mlflow-tracking-uri={server.uri}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    answer = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode in (4, 5), done.stderr
    assert named(answer) == {("environment", "xgboost-cpu")}
    assert answer["file_sha256"] != version["file_sha256"]


@pytest.mark.parametrize(
    ("target", "code", "problem"),
    [
        ("models:/churn@champion", 2, "'models:/churn@champion' is not models:/<name>/<version>"),
        ("no/run", 2, "'no/run' is neither models:/<name>/<version> nor the ID of a run."),
        ("0123456789abcdef", 2, "The run 0123456789abcdef has no registered version."),
        ("models:/nobody/1", 2, "nobody"),
    ],
)
def test_bad_target_is_one_sentence(reproduce: Reproduce, target: str, code: int, problem: str) -> None:
    found, answer, messages = reproduce(target)

    assert (found, answer) == (code, {})
    assert problem in messages[-1]
