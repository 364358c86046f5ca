"""Unusable data: an error that names the place, exit code 2, a FAILED run with the reason, and no version."""

import gzip
import io
import lzma
import os
import re
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.kinds import KINDS
from tests.training.conftest import Result, Server
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError, TrainingError

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
NOBODY = 65534


def parquet_of(*names: str) -> bytes:
    """Return a Parquet file with a row of 1.0 in each column."""
    buffer = io.BytesIO()
    parquet.write_table(pa.table([pa.array([1.0])] * len(names), names=list(names)), buffer)
    return buffer.getvalue()


TABLE = b"x,y\n" + b"1,a\n2,b\n" * 1000


def zstd(content: bytes) -> bytes:
    """Return the content as the command `zstd` compresses it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def damaged() -> bytes:
    """Return a Parquet file in which a page was overwritten."""
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"x": range(5000), "y": ["a", "b"] * 2500}), buffer, compression="snappy")
    content = bytearray(buffer.getvalue())
    content[200:400] = b"\xff" * 200
    return bytes(content)


# Cases: files by name, options in addition to --data=<folder>/<first file>, and the beginning of the error.
CASES: dict[str, tuple[dict[str, str | bytes], tuple[str, ...], str]] = {
    "missing file": (
        {},
        ("--data={folder}/none.csv",),
        "{folder}/none.csv is not a file. The built-in data sets are breast_cancer",
    ),
    "empty file": ({"a.csv": ""}, (), "{folder}/a.csv is empty."),
    "no rows": ({"a.csv": "x,y\n"}, (), "{folder}/a.csv has columns but no rows."),
    "missing target": (
        {"a.csv": "x,z\n1,2\n"},
        (),
        "--target (TRAINING_TARGET): column y does not exist; the columns are x, z.",
    ),
    "one class only": ({"a.csv": "x,y\n1,a\n2,a\n"}, (), "The target column y has only one class, a;"),
    "all missing": ({"a.csv": "x,z,y\n1,,a\n2,,b\n"}, (), "Column z has no value in any row"),
    "mixed types": ({"a.csv": "x,y\n1,a\nb,b\n3,a\n"}, (), "Row 2, column x: 'b' is text in a column of numbers"),
    "duplicate names": ({"a.csv": "x,x,y\n1,2,a\n"}, (), "Columns 1 and 2 of {folder}/a.csv are both called x."),
    "duplicate names in Parquet": ({"a.parquet": parquet_of("x", "x", "y")}, (), "Columns 1 and 2 of "),
    "NaN target": ({"a.csv": "x,y\n1,0.5\n2,NaN\n"}, (), "Row 2 has no value in the target column y"),
    "0 rows after cleaning": (
        {"a.csv": "x,y\n1,\n2,\n"},
        ("--skip-unlabelled",),
        "No row has a value in the target column y",
    ),
    "wrong scheme": (
        {},
        ("--data=ftp://host/a.csv",),
        "ftp:// is not supported: use a path, file://, s3://, http:// or https://.",
    ),
    "header that is not UTF-8": (
        {"a.csv": "größe,y\n1,a\n2,b\n".encode("latin-1")},
        (),
        "{folder}/a.csv is not a CSV or Parquet table: the header is not UTF-8 text; name the encoding with",
    ),
    "cells that are not UTF-8": (
        {"a.csv": "x,y\nä,a\nö,b\n".encode("latin-1")},
        (),
        "Column x is not UTF-8 text; name its encoding with --csv-encoding",
    ),
    "unknown compression": ({"a.csv": lzma.compress(TABLE)}, (), "{folder}/a.csv is not a CSV or Parquet table: "),
    "truncated gzip": ({"a.csv.gz": gzip.compress(TABLE)[:-20]}, (), "{folder}/a.csv.gz is not a CSV or Parquet table"),
    "truncated zstd": ({"a.csv": zstd(TABLE)[:-20]}, (), "{folder}/a.csv is not a CSV or Parquet table"),
    "damaged Parquet": (
        {"a.parquet": damaged()},
        (),
        "Row group 1 of 1 in {folder}/a.parquet cannot be read: Corrupt snappy compressed data; write the file again.",
    ),
    "damaged folder": (
        {"a.parquet": damaged()},
        ("--data={folder}",),
        "Row group 1 of 1 in {folder}/a.parquet cannot be read: Corrupt snappy compressed data; write the file again.",
    ),
    "empty folder": ({}, ("--data={folder}",), "{folder} is a folder without a .parquet file."),
    "other columns": (
        {"a.parquet": parquet_of("x", "y"), "b.parquet": parquet_of("x", "z", "y")},
        ("--data={folder}",),
        "{folder}/b.parquet has a column z, which {folder}/a.parquet does not have.",
    ),
}


def assert_refused(server: Server, result: Result, name: str, sentence: str) -> None:
    """Expect one sentence, exit code 2, a run that failed for this reason, and no version."""
    assert result.code == 2
    assert result.messages[-1].startswith(sentence)
    assert "\n" not in result.messages[-1]
    experiment = server.client.get_experiment_by_name(name)
    assert experiment
    (run,) = server.client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", result.messages[-1])
    assert not server.client.search_registered_models(f"name='{name}'")


@pytest.mark.parametrize("case", CASES)
def test_unusable_data_fail_the_run_and_register_nothing(
    server: Server, run: Callable[..., Result], case: str, tmp_path: Path
) -> None:
    files, options, sentence = CASES[case]
    folder, name = tmp_path / "data", f"bad-{list(CASES).index(case)}"
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    given_ = [f"--data={folder}/{next(iter(files), '')}", *(each.format(folder=folder) for each in options)]

    result = run(f"--mlflow-tracking-uri={server.uri}", f"--model-name={name}", "--target=y", *given_)

    assert_refused(server, result, name, sentence.format(folder=folder))


def test_unreadable_bucket_fails_the_run(
    server: Server, run: Callable[..., Result], bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "a.csv").write_text("x,y\n1,a\n2,b\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")

    result = run(
        f"--mlflow-tracking-uri={server.uri}", "--model-name=forbidden", "--target=y", "--data=s3://data/a.csv"
    )

    assert_refused(server, result, "forbidden", "s3://data/a.csv cannot be read: ")
    assert "ACCESS_DENIED" in result.messages[-1]


def test_unreachable_data_are_worth_a_retry(server: Server, run: Callable[..., Result]) -> None:
    name, source = "no-server", "http://127.0.0.1:9/a.csv"

    result = run(f"--mlflow-tracking-uri={server.uri}", f"--model-name={name}", "--target=y", f"--data={source}")

    assert (result.code, result.messages[-1]) == (1, f"{source} cannot be read: Connection refused.")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("http://[x", "'http://[x' is not a valid path or address: Invalid IPv6 URL."),
        ("http://host:99999/a.csv", "'http://host:99999/a.csv' is not a valid path or address: Port out of range"),
        ("http://127.0.0.1:9/a b.csv", "'http://127.0.0.1:9/a b.csv' is not a valid path or address: percent-encode"),
        ("http://127.0.0.1:9/é.csv", "'http://127.0.0.1:9/é.csv' is not a valid path or address: percent-encode"),
        ("s3:///a.csv", "s3:///a.csv has no bucket"),
        ("a\0b", r"'a\x00b' is not a valid path or address"),
        ("a" * 300, "File name too long"),
    ],
    ids=["host", "port", "blank", "umlaut", "bucket", "nul", "long"],
)
def test_invalid_address_is_refused(source: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        load(DataSpec(source=source, target="y"))


@pytest.mark.parametrize(("status", "code"), [(404, 2), (403, 2), (429, 1), (500, 1), (503, 1)])
def test_status_of_a_server_decides_about_a_retry(status: int, code: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.handle_request).start()
        with pytest.raises(TrainingError, match=f"cannot be read: the server answers {status} ") as caught:
            load(DataSpec(source=f"http://127.0.0.1:{web.server_port}/a.csv", target="y"))

    assert caught.value.exit_code == code


def test_deleted_experiment_is_refused_before_the_training(server: Server, run: Callable[..., Result]) -> None:
    server.client.delete_experiment(server.client.create_experiment("deleted"))

    result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=deleted")

    assert result.code == 2
    assert result.messages[-1].startswith(f"MLflow at {server.uri} refused (INVALID_PARAMETER_VALUE): Cannot set a ")


@contextmanager
def nobody() -> Iterator[None]:
    """Run as a user without files, if this is root, because permissions do not apply to root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)


@pytest.mark.parametrize("source", ["secret.csv", "lake"])
def test_unreadable_file_and_folder_are_named(source: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        folder.chmod(0o755)
        (folder / "secret.csv").write_text("x,y\n1,a\n2,b\n")
        (folder / "lake").mkdir()
        (folder / "lake" / "a.parquet").write_bytes(parquet_of("x", "y"))
        for each in ("secret.csv", "lake"):
            (folder / each).chmod(0)

        with nobody(), pytest.raises(InputError, match=rf"{source} cannot be read: .*[Pp]ermission denied"):
            load(DataSpec(source=str(folder / source), target="y"))

        (folder / "lake").chmod(0o755)


def test_full_disk_during_a_download_fails_the_run(server: Server, run: Callable[..., Result], bucket: Path) -> None:
    (bucket / "a.csv").write_text("x,y\n" + "1,a\n2,b\n" * 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses longer files, as a full disk does
    try:
        result = run(
            f"--mlflow-tracking-uri={server.uri}", "--model-name=full-temp", "--target=y", "--data=s3://data/a.csv"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert_refused(server, result, "full-temp", f"No room in {tempfile.gettempdir()} for a copy of s3://data/a.csv.")


def test_unknown_category_at_scoring_is_named_by_row_and_column(command: Callable[..., Result], tmp_path: Path) -> None:
    kind = KINDS["categorical"]
    kind.save(tmp_path / "model")
    frame = kind.frame.assign(colour=kind.frame["colour"].astype(str))
    frame.loc[3, "colour"] = "violet"
    frame.to_parquet(tmp_path / "data.parquet")
    given_ = [f"--data={tmp_path}/data.parquet", f"--output={tmp_path}/out"]

    result = command("score", f"--model-uri={(tmp_path / 'model').as_uri()}", *given_)

    assert result.code == 2
    assert "1 row is not valid for the model (row 3, column colour: must be one of the model's categories" in str(
        result.messages[-1]
    )
    assert not list((tmp_path / "out").glob("part-*"))


ROWS = 9
KINDS_OF_CELLS = [
    st.floats(), st.floats(-9, 9), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2), st.booleans(),
    st.text(max_size=2), st.sampled_from("ab"), st.dates(), st.binary(max_size=2), st.none(),
]  # fmt: skip
# A column of one type, with and without missing values, or with a single value.
COLUMN = st.sampled_from(KINDS_OF_CELLS).flatmap(
    lambda kind: st.one_of(
        st.lists(kind, min_size=ROWS, max_size=ROWS),
        st.lists(st.none() | kind, min_size=ROWS, max_size=ROWS),
        kind.map(lambda value: [value] * ROWS),
    )
)
MIXED = st.lists(st.one_of(KINDS_OF_CELLS), min_size=ROWS, max_size=ROWS)
NAMES = st.sampled_from([["x", "z", "y"]] * 8 + [["x", "x", "y"], ["x", "", "y"], ["x", " z", "y"], ["x", "y", "y"]])
WAYS = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["auto"] * 3 + ["binary", "multiclass", "regression", "ranking"]),
        "group": st.sampled_from(["", "", "x"]),
        "categorical": st.sampled_from([(), ("z",)]),
        "skip_unlabelled": st.booleans(),
    }
)


@given(st.lists(st.one_of(COLUMN, MIXED), min_size=3, max_size=3), NAMES, WAYS)
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_any_text_file_is_loaded_or_refused(columns: list[list[Any]], names: list[str], way: dict[str, Any]) -> None:
    table = pd.DataFrame(dict(enumerate(columns)), dtype=object)
    table.columns = pd.Index(names)
    assert_data_or_sentence(table.to_csv(index=False).encode("utf-8", "replace"), way)


@given(st.lists(COLUMN, min_size=3, max_size=3), NAMES, WAYS)
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_any_parquet_file_is_loaded_or_refused(columns: list[list[Any]], names: list[str], way: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    parquet.write_table(pa.table([pa.array(column) for column in columns], names=names), buffer)
    assert_data_or_sentence(buffer.getvalue(), way)


def assert_data_or_sentence(content: bytes, way: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        # Any other exception would crash a run.
        with suppress(InputError):
            data = load(DataSpec(source=file.name, target="y", **way))
            assert data.features.shape == (len(data.target), len(data.columns))
            split(data, SplitSpec())
