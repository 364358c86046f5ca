"""`python -m training score`: predictions of the service for a whole data set, even after a kill at any moment."""

import gzip
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from tests.app.kinds import KINDS, Kind
from tests.training.conftest import Server
from tools.loopback import until
from training.__main__ import main as program

# MLflow warns about its own code when a model is logged.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


def main(arguments: list[str]) -> int:
    return program(["score", *arguments])


ADDED = ["model_name", "model_version", "model_sha256"]


def saved(kind: Kind, folder: Path) -> tuple[str, Any]:
    """Save a model, and return its URI and the model."""
    model = kind.save(folder)
    return folder.as_uri(), model


def scored(output: Path) -> pd.DataFrame:
    """Return the predictions of all files in order, as any reader of the folder sees them."""
    parts: list[pd.DataFrame] = [pq.read_table(each).to_pandas() for each in sorted(output.glob("part-*.parquet"))]
    return pd.concat(parts)


def numbers(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the numerical predictions, shape (rows, outputs)."""
    shares = [name for name in frame if str(name).startswith("probability_")]
    names = shares or [name for name in frame if str(name).startswith("prediction")]
    return frame[names].to_numpy()


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    return saved(KINDS["binary"], tmp_path_factory.mktemp("binary") / "model")


def table(rows: int) -> pd.DataFrame:
    drawn = np.random.default_rng(rows).random((rows, 3), dtype=np.float32)
    return pd.DataFrame(drawn, columns=["a", "b", "c"]).assign(customer=[f"c{i}" for i in range(rows)])


@pytest.mark.parametrize("name", [name for name in KINDS if name != "1000 features"])  # takes seconds
def test_predictions_equal_xgboost_bit_for_bit(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    uri, model = saved(kind, tmp_path / "model")
    kind.frame.to_parquet(tmp_path / "data.parquet", row_group_size=17)
    wanted = np.asarray(kind.own(model, kind.frame), dtype=np.float32).reshape(len(kind.frame), -1)

    code = main([f"--model-uri={uri}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out", "--part-rows=30"])

    assert code == 0
    frame = scored(tmp_path / "out")
    assert frame["row"].tolist() == list(range(len(kind.frame)))
    found = numbers(frame)
    if (
        "label" in str(kind.contract) or found.dtype == object
    ):  # a label without probabilities is the position of its class
        classes = kind.contract.get("classes") or sorted(set(found[:, 0]), key=int)
        found = np.array([[classes.index(label)] for label in found[:, 0]], dtype=np.float32)
    if found.shape[1] == 2 and wanted.shape[1] == 1:
        wanted = np.c_[1 - wanted, wanted]
    np.testing.assert_array_equal(found, wanted)


def test_categories_of_the_options_are_used_and_recorded(tmp_path: Path) -> None:
    kind = KINDS["codes"]
    uri, model = saved(kind, tmp_path / "model")
    (tmp_path / "model" / "contract.json").unlink()
    kind.frame.to_parquet(tmp_path / "data.parquet")
    options = [f"--model-uri={uri}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]

    assert main(options) == 2
    assert main([*options, '--model-categories={"colour": ["red", "blue"]}']) == 0

    np.testing.assert_array_equal(numbers(scored(tmp_path / "out"))[:, 0], kind.own(model, kind.frame))
    assert main([*options, '--model-categories={"colour": ["blue", "red"]}']) == 2  # not a continuation of this output


@pytest.mark.parametrize("name", ["binary", "categorical", "missing", "optional"])
def test_csv_and_parquet_give_the_same_predictions(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    uri, _ = saved(kind, tmp_path / "model")
    kind.frame.to_parquet(tmp_path / "data.parquet")
    kind.frame.to_csv(tmp_path / "data.csv.gz", index=False)

    for data in ("data.parquet", "data.csv.gz"):
        assert main([f"--model-uri={uri}", f"--data={tmp_path}/{data}", f"--output={tmp_path}/{data}.out"]) == 0

    pd.testing.assert_frame_equal(scored(tmp_path / "data.parquet.out"), scored(tmp_path / "data.csv.gz.out"))


def test_parts_contain_model_and_copied_columns(binary: tuple[str, Any], tmp_path: Path) -> None:
    table(250).to_parquet(tmp_path / "data.parquet")
    folder = Path(binary[0].removeprefix("file://"))
    deciding = ("MLmodel", "contract.json", "input_example.json", "model.ubj")  # sorted, as sha256sum prints them
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in deciding
        if (folder / name).exists()
    ]

    options = [f"--model-uri={binary[0]}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]
    assert main([*options, "--part-rows=100", "--keep=customer"]) == 0

    frame = scored(tmp_path / "out")
    assert list(frame) == ["row", "customer", "prediction", "probability_no", "probability_yes", *ADDED]
    assert frame["customer"].tolist() == [f"c{i}" for i in range(250)]
    assert set(frame["model_sha256"]) == {hashlib.sha256("".join(lines).encode()).hexdigest()}
    assert set(frame["prediction"]) == {"no", "yes"}
    success = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert [(part["name"], part["rows"]) for part in success["parts"]] == [
        ("part-00000.parquet", 100),
        ("part-00001.parquet", 100),
        ("part-00002.parquet", 50),
    ]
    for part in success["parts"]:
        assert hashlib.sha256((tmp_path / "out" / part["name"]).read_bytes()).hexdigest() == part["sha256"]


def test_folder_is_one_data_set_in_the_order_of_names(binary: tuple[str, Any], tmp_path: Path) -> None:
    whole = table(300)
    for i, (start, end) in enumerate([(0, 10), (10, 190), (190, 300)]):
        place = tmp_path / "data" / f"day={i}"
        place.mkdir(parents=True)
        whole[start:end].to_parquet(place / "x.parquet", row_group_size=50)
    (tmp_path / "data" / "_SUCCESS").touch()
    whole.to_parquet(tmp_path / "whole.parquet")
    options = [f"--model-uri={binary[0]}", "--part-rows=64", "--keep=customer"]

    for data in ("data", "whole.parquet"):
        assert main([*options, f"--data={tmp_path}/{data}", f"--output={tmp_path}/{data}.out"]) == 0

    pd.testing.assert_frame_equal(scored(tmp_path / "data.out"), scored(tmp_path / "whole.parquet.out"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_only_missing_parts_are_written_again(suffix: str, binary: tuple[str, Any], tmp_path: Path) -> None:
    whole = table(1000)
    whole.to_csv(tmp_path / "data.csv", index=False)
    whole.to_parquet(tmp_path / "data.parquet", row_group_size=130)
    options = [f"--model-uri={binary[0]}", f"--data={tmp_path}/data.{suffix}", f"--output={tmp_path}/out"]
    options += ["--part-rows=70"]
    assert main(options) == 0
    digests = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (tmp_path / "out").iterdir()}

    for lost in (0, 3, 14):
        (tmp_path / "out" / "_SUCCESS").unlink()
        for number in range(lost, 15):
            (tmp_path / "out" / f"part-{number:05d}.parquet").unlink()
        kept = {each.name: each.stat().st_mtime_ns for each in (tmp_path / "out").glob("part-*")}
        assert main(options) == 0
        assert {n: hashlib.sha256((tmp_path / "out" / n).read_bytes()).hexdigest() for n in digests} == digests
        assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept} == kept


def killed(command: list[str], output: Path, part: int) -> int:
    """Kill a run after it has written a part, and return its exit code."""
    child = subprocess.Popen(command)
    until(lambda: (output / f"part-{part:05d}.parquet").exists() or child.poll() is not None)
    os.kill(child.pid, signal.SIGKILL)
    return child.wait()


# A small process forks the command, because a peak starts with the memory of the parent. This process is too large.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(command: list[str]) -> int:
    """Run a command, and return its peak memory in KiB."""
    said = subprocess.run([sys.executable, "-c", PEAK, *command], stdout=subprocess.PIPE, text=True, check=True)
    return int(said.stdout.splitlines()[-1])


@pytest.mark.parametrize(("rows", "kills"), [(60_000, [4]), pytest.param(1_000_000, [1, 4, 9], marks=pytest.mark.long)])
def test_killed_run_continues_without_loss_or_duplicates(rows: int, kills: list[int], tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).random((rows, 50)), columns=[f"f{i}" for i in range(50)])
    frame.to_parquet(tmp_path / "data.parquet", row_group_size=rows // 3)
    label = (frame["f0"] > 0.5)[:5000]
    trained = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(frame[:5000], label), num_boost_round=100)
    Kind(frame[:100], lambda _: trained, lambda _, __: None).save(tmp_path / "model")
    command = [sys.executable, "-m", "training", "score", f"--model-uri={(tmp_path / 'model').as_uri()}"]
    command += [f"--data={tmp_path}/data.parquet", f"--part-rows={rows // 20}"]

    for part in kills:
        assert killed([*command, f"--output={tmp_path}/out"], tmp_path / "out", part) == -signal.SIGKILL
    for output in ("out", "undisturbed"):
        assert peak([*command, f"--output={tmp_path}/{output}"]) < 1 << 20, "KiB: 1 GiB"

    found, wanted = scored(tmp_path / "out"), scored(tmp_path / "undisturbed")
    assert found["row"].tolist() == list(range(rows))
    pd.testing.assert_frame_equal(found, wanted)
    own = trained.predict(xgb.DMatrix(frame.astype(np.float32)))
    np.testing.assert_array_equal(found["probability_1"], own)
    names = {each.name for each in (tmp_path / "out").iterdir() if not each.name.startswith(".")}
    assert names == {each.name for each in (tmp_path / "undisturbed").iterdir()}


def test_continued_run_keeps_its_version(server: Server, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(server.uri)
    name = "kept"
    for i, kind in enumerate(("binary", "logit")):
        with mlflow.start_run():
            frame = KINDS[kind].frame
            mlflow.xgboost.log_model(
                KINDS[kind].train(frame),
                name="model",
                model_format="ubj",
                signature=mlflow.models.infer_signature(frame),
                pip_requirements=["xgboost-cpu"],
                registered_model_name=name,
            )
        server.client.set_registered_model_alias(name, "champion", str(i + 1))
        if i == 0:
            table(100).to_parquet(tmp_path / "data.parquet")
            options = [f"--mlflow-tracking-uri={server.uri}", f"--model-uri=models:/{name}@champion", "--part-rows=40"]
            options += [f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]
            assert main(options) == 0
            (tmp_path / "out" / "part-00002.parquet").unlink()
            (tmp_path / "out" / "_SUCCESS").unlink()

    assert main(options) == 0

    assert set(scored(tmp_path / "out")["model_version"]) == {"1"}


def test_complete_run_writes_nothing(binary: tuple[str, Any], tmp_path: Path) -> None:
    table(10).to_parquet(tmp_path / "data.parquet")
    options = [f"--model-uri={binary[0]}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]
    assert main(options) == 0
    os.utime(tmp_path / "data.parquet", (1, 1))  # a mounted file is new in another pod
    before = {each.name: each.stat().st_mtime_ns for each in (tmp_path / "out").iterdir()}

    assert main(options) == 0

    assert {each.name: each.stat().st_mtime_ns for each in (tmp_path / "out").iterdir()} == before


def test_bad_cells_are_named_and_end_the_run(
    binary: tuple[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = table(40_000).astype(object)
    frame.loc[39_000, "b"] = "secret"
    frame.loc[39_990, "c"] = "1e99"
    frame.to_csv(tmp_path / "data.csv", index=False)
    options = [f"--model-uri={binary[0]}", f"--data={tmp_path}/data.csv", f"--output={tmp_path}/out"]

    assert main([*options, "--part-rows=20000"]) == 2

    said = caplog.records[-1].getMessage()
    assert "2 rows are not valid for the model (row 39000, column b: must be a number, not a string; row 39990" in said
    assert "secret" not in said
    assert "--on-error=skip" in said
    assert len(scored(tmp_path / "out")) == 20_000, "the previous part exists"
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_skipped_rows_have_an_error_and_no_prediction(tmp_path: Path) -> None:
    kind = KINDS["categorical"]
    uri, _ = saved(kind, tmp_path / "model")
    frame = kind.frame.assign(colour=kind.frame["colour"].astype(str))
    frame.loc[3, "colour"] = "violet"
    frame.to_parquet(tmp_path / "data.parquet")
    options = [f"--model-uri={uri}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]

    assert main([*options, "--on-error=skip"]) == 0

    found = scored(tmp_path / "out").set_index("row")
    assert str(found.loc[3, "error"]).startswith("colour: must be one of the model's categories")
    assert found.loc[3, ["prediction", "probability_no", "probability_yes"]].isna().all()
    assert found["error"].isna().sum() == len(frame) - 1
    assert found.drop(3)["probability_yes"].notna().all()


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"data": "nowhere.parquet"}, 2, "does not exist"),
        ({"data": "empty"}, 2, "does not contain a file that ends in .csv, .csv.gz"),
        ({"data": "latin.csv"}, 2, "the header is not UTF-8 text; name the encoding with --csv-encoding"),
        ({"data": "cut.csv.gz"}, 2, "cut.csv.gz cannot be read: "),
        ({"data": "narrow.csv"}, 2, "has no column c, which the model or --keep needs; its columns are a, b"),
        ({"data": "twice.csv"}, 2, "has two columns named a"),
        ({"data": "noise.parquet"}, 2, "cannot be read"),
        ({"data": "ragged.csv"}, 2, "Expected 3 columns, got 2"),
        ({"data": "ftp://example/x.csv"}, 2, "ftp:// is not supported"),
        ({"data": "http://127.0.0.1:9/x.csv"}, 1, "Connection refused"),
        ({"model-uri": "models:/nobody/1"}, 2, "a models:/ URI requires MLFLOW_TRACKING_URI"),
        ({"model-uri": "file:///nowhere"}, 2, "/nowhere/MLmodel cannot be read"),
        ({"model-sha256": "0" * 64}, 2, "is pinned"),
        ({"output": "a-file"}, 2, "cannot be"),
        ({"keep": "model_name"}, 2, "--keep=model_name is the name of a column that scoring adds"),
        ({"keep": "nobody"}, 2, "has no column nobody"),
        ({"part-rows": "0"}, 2, "--part-rows (TRAINING_PART_ROWS): Input should be greater than or equal to 1"),
    ],
)
def test_wrong_input_is_one_sentence(
    change: dict[str, str],
    code: int,
    sentence: str,
    binary: tuple[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    table(10).assign(model_name="x").to_csv("data.csv", index=False)
    table(10)[["a", "b"]].to_csv("narrow.csv", index=False)
    Path("twice.csv").write_text("a,a,b,c\n1,2,3,4\n")
    Path("ragged.csv").write_text("a,b,c\n1,2,3\n4,5\n")
    Path("noise.parquet").write_bytes(b"PAR1 and no more PAR1")
    Path("latin.csv").write_bytes("a,b,c,größe\n1,2,red,4\n".encode("latin-1"))
    Path("cut.csv.gz").write_bytes(gzip.compress(b"a,b,c\n" + b"1,2,red\n" * 1000)[:-20])
    Path("a-file").touch()
    Path("empty").mkdir()
    options = {"model-uri": binary[0], "data": "data.csv", "output": "out"} | change

    assert main([f"--{name}={value}" for name, value in options.items()]) == code

    said = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(said) == 1
    assert sentence in said[0].getMessage()
    assert "\n" not in said[0].getMessage()
    assert not list(Path("out").glob("part-*"))


def test_folder_of_a_different_run_is_not_changed(
    binary: tuple[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(10).to_parquet(tmp_path / "data.parquet")
    options = [f"--model-uri={binary[0]}", f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]
    assert main(options) == 0
    table(20).to_parquet(tmp_path / "data.parquet")

    assert main(options) == 2

    assert "contains predictions of a different run (data differ)" in caplog.text
    assert len(scored(tmp_path / "out")) == 10


def test_data_and_predictions_may_be_in_s3(binary: tuple[str, Any], bucket: Path, tmp_path: Path) -> None:
    table(200).to_parquet(bucket / "in.parquet")
    table(200).to_parquet(tmp_path / "in.parquet")
    options = [f"--model-uri={binary[0]}", "--part-rows=64"]
    assert main([*options, "--data=s3://data/in.parquet", "--output=s3://data/scores/run"]) == 0
    (bucket / "scores" / "run" / "part-00003.parquet").unlink()
    (bucket / "scores" / "run" / "_SUCCESS").unlink()

    assert main([*options, "--data=s3://data/in.parquet", "--output=s3://data/scores/run"]) == 0

    assert main([*options, f"--data={tmp_path}/in.parquet", f"--output={tmp_path}/out"]) == 0
    pd.testing.assert_frame_equal(scored(bucket / "scores" / "run"), scored(tmp_path / "out"))
    assert main([*options, "--data=s3://data/nothing.parquet", "--output=s3://data/other"]) == 2
    assert main([*options, "--data=s3://nobody/nothing.parquet", "--output=s3://data/other"]) == 2


@pytest.mark.usefixtures("bucket")
def test_unreadable_bucket_is_one_sentence(
    binary: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")

    code = main([f"--model-uri={binary[0]}", "--data=s3://data/in.parquet", f"--output={tmp_path}/out"])

    assert code == 2
    assert "s3://data/in.parquet cannot be read: " in caplog.records[-1].getMessage()
    assert "ACCESS_DENIED" in caplog.records[-1].getMessage()
    assert "another" not in caplog.text
