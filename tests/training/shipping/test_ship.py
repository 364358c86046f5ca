"""The inference log from a real service to Parquet files: every kind of model, restarts, outages and deletions."""

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.monitoring import segments
from app.monitoring.segments import LoggedLabel, LoggedLabels
from tests.app.kinds import KINDS
from tests.app.monitoring.test_inference_log import logging_service
from tests.s3 import s3_server
from tests.training.conftest import Result
from tools.cluster.cache import ROOT
from tools.loopback import until

Run = Callable[..., Result]


def shipped(place: Path, log: Path, command: Run, *more: str) -> Result:
    return command("ship", f"--segments={place}/segments", f"--log-uri={log.as_uri()}", "--pod=pod-a", "--once", *more)


def frame(log: Path, kind: str = "predictions") -> pd.DataFrame:
    found = pd.read_parquet(log / kind)
    return found.sort_values(["time", *(["row"] if kind == "predictions" else [])], ignore_index=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "key").write_text("a-key-0123456789")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_what_was_asked_and_answered(kind: str, tmp_path: Path, command: Run) -> None:
    KINDS[kind].save(tmp_path / "model")
    body = KINDS[kind].body()
    before = datetime.now(UTC)
    with logging_service((tmp_path / "model").as_uri(), tmp_path, max_body_bytes=4_000_000) as client:
        model = client.get("/model").json()
        answer = client.post("/predict", json=body, headers={"X-Request-ID": "one"}).json()["predictions"]

    result = shipped(tmp_path, tmp_path / "log", command)

    assert result.published == {"log": (tmp_path / "log").as_uri(), "segments": 1}
    assert list((tmp_path / "segments").iterdir()) == []
    found = frame(tmp_path / "log")
    assert len(found) == len(body["data"])
    assert set(found["request_id"]) == {"one"}
    assert found["row"].tolist() == list(range(len(found)))
    assert found["owner"].isna().all()
    assert found["prediction_id"].isna().all()
    assert set(found["model_version"]) == {model["version"]}
    assert set(found["model_sha256"]) == {model["sha256"]}
    assert found["latency_seconds"].gt(0).all()
    assert found["time"].between(before, datetime.now(UTC)).all()
    assert set(found["day"]) <= {f"{before:%Y-%m-%d}", f"{datetime.now(UTC):%Y-%m-%d}"}
    for place, name in enumerate(body["columns"]):
        asked = [row[place] for row in body["data"]]
        cells = [None if pd.isna(cell) else cell for cell in found[f"input_{name}"]]
        if pd.api.types.is_float_dtype(found[f"input_{name}"].dtype) and any(each is not None for each in asked):
            numbers = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
            expected = np.array([np.nan if cell is None else cell for cell in asked], dtype=np.float64)
            np.testing.assert_allclose(numbers, expected, rtol=1e-6)
        else:
            assert cells == asked
    first = answer[0]
    if isinstance(first, dict):
        assert found["prediction"].tolist() == [each["label"] for each in answer]
        for name in first.get("probabilities", {}):
            shares = [each["probabilities"][name] for each in answer]
            np.testing.assert_allclose(found[f"probability_{name}"], shares, rtol=1e-6)
    elif isinstance(first, list):
        for place in range(len(first)):
            np.testing.assert_allclose(found[f"prediction_{place}"], [each[place] for each in answer], rtol=1e-6)
    else:
        np.testing.assert_allclose(found["prediction"], answer, rtol=1e-6)


def test_unknown_category_and_redaction_reach_the_files(tmp_path: Path, command: Run) -> None:
    KINDS["categorical"].save(tmp_path / "model")
    body = KINDS["categorical"].body()
    place = body["columns"].index("colour")
    body["data"][1][place] = "never seen"
    changes = {"model_unknown_category": "missing", "payload_redact": '["size"]'}
    with logging_service((tmp_path / "model").as_uri(), tmp_path, **changes) as client:
        client.post("/predict", json=KINDS["categorical"].body())
        client.post("/predict", json=body)

    shipped(tmp_path, tmp_path / "log", command)

    found = frame(tmp_path / "log")
    assert "input_size" not in found.columns
    colours = [row[place] for row in KINDS["categorical"].body()["data"]]
    assert sorted(map(str, found["input_colour"])) == sorted(map(str, colours + [row[place] for row in body["data"]]))
    assert (found["input_colour"] == "never seen").sum() == 1


def test_label_joins_its_prediction(tmp_path: Path, keys: Path, command: Run) -> None:
    KINDS["binary"].save(tmp_path / "model")
    with logging_service((tmp_path / "model").as_uri(), tmp_path, feedback_keys_dir=keys) as client:
        answer = client.post("/predict", json=KINDS["binary"].body()).json()
        wanted = [each["label"] for each in answer["predictions"]]
        entries = [{"token": token, "label": label} for token, label in zip(answer["tokens"], wanted, strict=True)]
        client.post("/feedback", json={"labels": entries[::-1]})

    shipped(tmp_path, tmp_path / "log", command)

    joined = frame(tmp_path / "log").merge(frame(tmp_path / "log", "labels"), on="prediction_id")
    assert len(joined) == len(wanted)
    assert joined["prediction"].tolist() == joined["label_class"].tolist()


def test_segment_that_is_shipped_twice_doubles_nothing(tmp_path: Path, command: Run) -> None:
    KINDS["binary"].save(tmp_path / "model")
    with logging_service((tmp_path / "model").as_uri(), tmp_path) as client:
        client.post("/predict", json=KINDS["binary"].body())
    (segment,) = segments.closed(tmp_path / "segments")
    content = segment.read_bytes()

    shipped(tmp_path, tmp_path / "log", command)
    first = {path: path.read_bytes() for path in (tmp_path / "log").rglob("*.parquet")}
    segment.write_bytes(content)  # as if the process had been killed before it deleted the segment
    shipped(tmp_path, tmp_path / "log", command)

    assert {path: path.read_bytes() for path in (tmp_path / "log").rglob("*.parquet")} == first


def test_rows_of_two_days_are_in_two_folders(tmp_path: Path, command: Run) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    labels = [LoggedLabel(midnight + more, "00", "m", "1", "", "", 1.5) for more in (-0.1, 0, 0.1)]
    segment(tmp_path, labels)

    shipped(tmp_path, tmp_path / "log", command)

    assert frame(tmp_path / "log", "labels")["day"].tolist() == ["2026-02-28", "2026-03-01", "2026-03-01"]
    assert frame(tmp_path / "log", "labels")["label_number"].tolist() == [1.5] * 3


def segment(place: Path, labels: list[LoggedLabel], name: str = "0000000000001-000001") -> Path:
    """Write a segment with labels."""
    (place / "segments").mkdir(exist_ok=True)
    path = place / "segments" / f"{name}{segments.CLOSED}"
    path.write_bytes(b"".join(segments.encoded(LoggedLabels(labels))))
    return path


def label(identity: str, moment: datetime) -> LoggedLabel:
    return LoggedLabel(moment.timestamp(), identity, "m", "1", "", "", "yes")


def test_unreadable_segment_does_not_hold_up_the_others(tmp_path: Path, command: Run) -> None:
    now = datetime.now(UTC)
    bad = segment(tmp_path, [])
    bad.write_bytes(segments.encoded(LoggedLabels([label("aa", now)]))[0])  # only the head
    wrong = segment(tmp_path, [], "0000000000001-000002")
    wrong.write_bytes(_of_no_block())
    segment(tmp_path, [label("bb", now)], "0000000000001-000003")

    shipped(tmp_path, tmp_path / "log", command)

    assert frame(tmp_path / "log", "labels")["prediction_id"].tolist() == ["bb"]
    assert [path.name for path in (tmp_path / "segments").iterdir()] == ["0000000000001-000002.broken"]


def _of_no_block() -> bytes:
    """Return a complete block with a document of another program."""
    content = b"\x01"
    return segments._HEAD.pack(segments._MAGIC, len(content), zlib.crc32(content)) + content


def test_days_beyond_the_retention_are_deleted(tmp_path: Path, command: Run) -> None:
    now = datetime.now(UTC)
    segment(tmp_path, [label(f"{age:02x}", now - timedelta(days=age)) for age in (0, 2, 40)])
    shipped(tmp_path, tmp_path / "log", command)
    (tmp_path / "log" / "labels" / "day=other").mkdir()
    (tmp_path / "log" / "labels" / "day=other" / "x.parquet").write_bytes(b"")

    with shipping(tmp_path, (tmp_path / "log").as_uri(), "--retention-days=30"):
        until(lambda: len(list((tmp_path / "log").rglob("*.parquet"))) == 3, 300)

    left = [path.parent.name for path in (tmp_path / "log").rglob("*.parquet")]
    assert sorted(left) == sorted([f"day={now - timedelta(days=age):%Y-%m-%d}" for age in (0, 2)] + ["day=other"])


@contextmanager
def shipping(place: Path, log: str, *more: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the shipper in a process of its own, and stop it by SIGTERM after the block."""
    (place / "segments").mkdir(exist_ok=True)
    arguments = [f"--segments={place}/segments", f"--log-uri={log}", "--pod=pod-a", "--poll-seconds=0.1", *more]
    with (place / "ship.log").open("ab") as output:
        command = [sys.executable, "-m", "training", "ship", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def test_sigterm_ships_what_is_left(tmp_path: Path) -> None:
    segment(tmp_path, [], "0000000000000-000001")
    with shipping(tmp_path, (tmp_path / "log").as_uri(), "--poll-seconds=1000", "--take-open") as process:
        until(lambda: _logged(tmp_path), 300)
        left = segment(tmp_path, [label("aa", datetime.now(UTC))])
        left.rename(left.with_suffix(segments.OPEN))

    assert process.returncode == 0
    assert frame(tmp_path / "log", "labels")["prediction_id"].tolist() == ["aa"]
    assert list((tmp_path / "segments").iterdir()) == []


def _logged(place: Path) -> bool:
    """Return whether the shipper has begun, by what it says of the first look."""
    return "shipped 0000000000000-" in (place / "ship.log").read_text()


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGTERM])
def test_no_segment_is_lost_or_doubled_by_a_restart(signalled: signal.Signals, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    log = tmp_path / "log"
    for number in range(60):
        segment(tmp_path, [label(f"{number:02x}", now)], f"0000000000001-{number:06d}")

    with shipping(tmp_path, log.as_uri()) as process:
        until(lambda: len(list(log.rglob("*.parquet"))) >= 3, 300)
        process.send_signal(signalled)
        process.wait(300)
    with shipping(tmp_path, log.as_uri()):
        until(lambda: not segments.closed(tmp_path / "segments"), 300)

    assert sorted(frame(log, "labels")["prediction_id"]) == [f"{number:02x}" for number in range(60)]


def test_segments_wait_for_a_bucket_that_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    segment(tmp_path, [label("aa", datetime.now(UTC))])
    with s3_server(tmp_path / "s3") as variables:
        with shipping(tmp_path, "s3://logs/of/churn", **variables) as process:  # the bucket does not exist yet
            until(lambda: "cannot be written" in (tmp_path / "ship.log").read_text(), 300)
            assert process.poll() is None
            (tmp_path / "s3" / "logs").mkdir()
            until(lambda: not segments.closed(tmp_path / "segments"), 300)
        assert process.returncode == 0

    assert frame(tmp_path / "s3" / "logs" / "of" / "churn", "labels")["prediction_id"].tolist() == ["aa"]


def test_what_cannot_be_shipped_in_the_end_is_said(tmp_path: Path, command: Run) -> None:
    path = segment(tmp_path, [label("aa", datetime.now(UTC))])
    (tmp_path / "log").write_text("a file")

    result = shipped(tmp_path, tmp_path / "log", command, "--end-seconds=0")

    assert result.code != 0
    assert f"{path.stat().st_size} bytes of segments were not shipped." in result.messages[-1]
    assert path.exists()


@pytest.mark.parametrize("uri", ["ftp://somewhere/x", "s3://", "s3://bucket/../x?y"])
def test_address_that_is_not_valid_is_refused(uri: str, tmp_path: Path, command: Run) -> None:
    result = command("ship", f"--segments={tmp_path}", f"--log-uri={uri}", "--once")

    assert result.code == 2
    assert uri in result.messages[-1]


def test_subject_is_erased_with_its_labels(tmp_path: Path, keys: Path, command: Run) -> None:
    KINDS["categorical"].save(tmp_path / "model")
    log, body = tmp_path / "log", KINDS["categorical"].body()
    with logging_service((tmp_path / "model").as_uri(), tmp_path, feedback_keys_dir=keys) as client:
        answer = client.post("/predict", json=body).json()
        predicted = answer["predictions"]
        entries = [
            {"token": token, "label": value["label"] if isinstance(value, dict) else value}
            for token, value in zip(answer["tokens"], predicted, strict=True)
        ]
        client.post("/feedback", json={"labels": entries})
    shipped(tmp_path, log, command)
    colours = [row[body["columns"].index("colour")] for row in body["data"]]
    red = colours.count("red")

    result = command("erase", f"--log-uri={log.as_uri()}", "--column=input_colour", '--values=["red"]')

    assert result.published["deleted"] == {"predictions": red, "labels": red}
    assert 0 < red < len(colours)
    left = frame(log)
    assert left["input_colour"].tolist() == [each for each in colours if each != "red"]
    assert set(frame(log, "labels")["prediction_id"]) == set(left["prediction_id"])
    whole = command("erase", f"--log-uri={log.as_uri()}", "--column=model_name", f'--values=["{tmp_path.name}"]')
    assert whole.published["deleted"]["predictions"] == len(left)
    assert list(log.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    ("column", "value", "problem"), [("input_color", "red", "no file"), ("input_count", "many", "has the type int64")]
)
def test_erasure_of_an_unknown_subject_is_refused(
    column: str, value: str, problem: str, tmp_path: Path, command: Run
) -> None:
    KINDS["categorical"].save(tmp_path / "model")
    with logging_service((tmp_path / "model").as_uri(), tmp_path) as client:
        client.post("/predict", json=KINDS["categorical"].body())
    shipped(tmp_path, tmp_path / "log", command)

    result = command(
        "erase", f"--log-uri={(tmp_path / 'log').as_uri()}", f"--column={column}", f"--values={json.dumps([value])}"
    )

    assert result.code == 2
    assert problem in result.messages[-1]
