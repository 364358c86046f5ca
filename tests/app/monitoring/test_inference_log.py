"""The service's side of the inference log: what is in the segments, and what a kill, a full disk and a burst cost."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from app.monitoring import segment_writer, segments
from app.monitoring.segments import Block, LoggedLabels, LoggedModel, LoggedPredictions
from tests.app.harness import COLUMNS, SERVICE, process, running_service, serving, settings_for
from tests.app.kinds import KINDS
from tools.loopback import until

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}


@contextmanager
def logging_service(uri: str, place: Path, **changes: Any) -> Iterator[TestClient]:
    """Yield a service whose segments are in `place`/segments; they are complete after the block."""
    (place / "segments").mkdir(exist_ok=True)
    given = {"payload_dir": place / "segments", "payload_sample_ratio": 1, "model_name": place.name} | changes
    with serving(settings_for(uri, place, **given)) as client:
        yield client


def logged(place: Path) -> list[Block]:
    """Return the blocks of all complete segments."""
    assert not list((place / "segments").glob(f"*{segments.OPEN}"))
    return [block for path in segments.closed(place / "segments") for block in segments.blocks(path.read_bytes())]


def predictions(found: list[Block]) -> list[LoggedPredictions]:
    return [each for each in found if isinstance(each, LoggedPredictions)]


def request_ids(found: list[Block]) -> list[str]:
    return [identity for each in predictions(found) for identity in each.request_ids]


def dropped(name: str, reason: str) -> float:
    labels = {"model_name": name, "reason": reason}
    return REGISTRY.get_sample_value("model_inference_log_dropped_total", labels) or 0


def test_segment_contains_the_rows_and_numbers_of_the_model(saved: Path, tmp_path: Path) -> None:
    begin = time.time()
    with logging_service(saved.as_uri(), tmp_path) as client:
        sha256 = client.get("/model").json()["sha256"]
        first = client.post("/predict", json={"instances": [ROW, ROW]}, headers={"X-Request-ID": "one"})
        client.post("/invocations", json={"dataframe_records": [ROW]}, headers={"X-Request-ID": "two"})

    model, *blocks = logged(tmp_path)
    assert isinstance(model, LoggedModel)
    assert (model.name, model.sha256) == (tmp_path.name, sha256)
    assert [each.name for each in model.columns] == COLUMNS
    assert request_ids(blocks) == ["one", "two"]
    found = predictions(blocks)
    counts = np.concatenate([np.frombuffer(each.counts, np.uint32) for each in found])
    assert counts.tolist() == [2, 1]
    rows = np.concatenate([np.frombuffer(each.matrix, np.float32) for each in found]).reshape(-1, 3)
    assert rows.tolist() == [[0.5, 0.25, 3]] * 3
    numbers = np.concatenate([np.frombuffer(each.numbers, np.float32) for each in found]).tolist()
    assert numbers[:2] == [each["probabilities"]["benign"] for each in first.json()["predictions"]]
    times = np.concatenate([np.frombuffer(each.times) for each in found])
    assert ((begin < times) & (times < time.time())).all()
    seconds = np.concatenate([np.frombuffer(each.seconds, np.float32) for each in found])
    assert ((seconds > 0) & (seconds < 60)).all()


def test_redacted_column_is_absent(saved: Path, tmp_path: Path) -> None:
    with logging_service(saved.as_uri(), tmp_path, payload_redact='["texture"]') as client:
        client.post("/predict", json={"instances": [ROW]})

    model, block = logged(tmp_path)
    assert isinstance(model, LoggedModel)
    assert [each.name for each in model.columns] == ["mean radius", "count"]
    assert isinstance(block, LoggedPredictions)
    assert np.frombuffer(block.matrix, np.float32).tolist() == [0.5, 3]


def test_unknown_redacted_column_ends_the_process(saved: Path, tmp_path: Path) -> None:
    variables = {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO": "1",
        "MODEL_SERVICE_PAYLOAD_DIR": str(tmp_path),
        "MODEL_SERVICE_PAYLOAD_REDACT": '["Texture"]',
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
    }
    with process(SERVICE, tmp_path / "log", **variables) as running:
        assert running.wait(300) == 1

    assert "the model has no such column" in (tmp_path / "termination").read_text()


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mount a volume there"):
        settings_for("file:///m", tmp_path, payload_dir=tmp_path / "none", payload_sample_ratio=1)


def test_log_without_a_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PAYLOAD_SAMPLE_RATIO above 0"):
        settings_for("file:///m", tmp_path, payload_dir=tmp_path)


def test_unknown_category_is_logged_as_it_was_sent(tmp_path: Path) -> None:
    KINDS["categorical"].save(tmp_path / "model")
    body = KINDS["categorical"].body()
    place = body["columns"].index("colour")
    body["data"][1][place] = "never seen"
    with logging_service(
        (tmp_path / "model").as_uri(), tmp_path, model_unknown_category="missing", payload_redact='["size"]'
    ) as client:
        assert client.post("/predict", json=body).status_code == 200

    (block,) = predictions(logged(tmp_path))
    assert not block.matrix
    rows = json.loads(block.cells[0])
    kept = [name for name in body["columns"] if name != "size"]
    assert rows[1][kept.index("colour")] == "never seen"
    assert len(rows) == len(body["data"])
    assert {len(row) for row in rows} == {len(kept)}


def test_label_names_its_prediction(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "key").write_text("a-key-0123456789")
    with logging_service(saved.as_uri(), tmp_path, feedback_keys_dir=tmp_path / "keys") as client:
        tokens = client.post("/predict", json={"instances": [ROW, ROW]}).json()["tokens"]
        entries = [{"token": tokens[1], "label": "benign"}, {"token": tokens[0], "label": "nonsense"}]
        answer = client.post("/feedback", json={"labels": entries}, headers={"X-Request-ID": "later"}).json()

    found = logged(tmp_path)
    assert answer["accepted"] == 1
    (block,) = predictions(found)
    ids = [block.tokens[0][start : start + segments.TOKEN_PART] for start in (0, segments.TOKEN_PART)]
    assert ids == [token[: segments.TOKEN_PART] for token in tokens]
    (label,) = [label for each in found if isinstance(each, LoggedLabels) for label in each.labels]
    assert (label.label, label.request_id, label.name) == ("benign", "later", tmp_path.name)
    assert label.prediction_id == segments.identities(block.tokens[0])[1]


def test_share_of_the_requests_is_sampled(saved: Path, tmp_path: Path) -> None:
    with logging_service(saved.as_uri(), tmp_path, payload_sample_ratio=0.5) as client:
        for _ in range(200):
            client.post("/predict", json={"instances": [ROW]})

    assert 60 < len(request_ids(logged(tmp_path))) < 140  # more than five standard deviations


def test_full_queue_drops_and_counts_requests(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_writer, "QUEUE_BYTES", 3 * (segment_writer.RECORD_BYTES + 12))
    with logging_service(saved.as_uri(), tmp_path, payload_flush_seconds=1000) as client:
        answers = [client.post("/predict", json={"instances": [ROW]}).status_code for _ in range(10)]

    assert answers == [200] * 10
    assert len(request_ids(logged(tmp_path))) == 3
    assert dropped(tmp_path.name, "queue_full") == 7


def test_full_folder_drops_and_counts_requests(saved: Path, tmp_path: Path) -> None:
    with logging_service(
        saved.as_uri(), tmp_path, payload_buffer_bytes=2000, payload_flush_seconds=0.01, payload_rotate_bytes=1
    ) as client:
        sent = 0
        while not dropped(tmp_path.name, "folder_full"):
            assert client.post("/predict", json={"instances": [ROW]}).status_code == 200
            sent += 1
            time.sleep(0.02)

    size = sum(path.stat().st_size for path in (tmp_path / "segments").iterdir())
    assert 1000 < size <= 2000
    assert len(request_ids(logged(tmp_path))) + dropped(tmp_path.name, "folder_full") == sent
    waiting = REGISTRY.get_sample_value("model_inference_log_waiting_bytes", {"model_name": tmp_path.name})
    assert waiting == size


def test_unwritable_folder_costs_no_request(saved: Path, tmp_path: Path) -> None:
    with logging_service(saved.as_uri(), tmp_path, payload_flush_seconds=0.01) as client:
        folder = tmp_path / "segments"
        folder.rmdir()
        answers = [client.post("/predict", json={"instances": [ROW]}).status_code for _ in range(3)]
        until(lambda: dropped(tmp_path.name, "failed") == 3, 300)
        folder.mkdir()
        until(lambda: client.post("/predict", json={"instances": [ROW]}) and list(folder.iterdir()), 300)

    assert answers == [200] * 3
    assert request_ids(logged(tmp_path))


def test_segment_of_a_killed_process_is_taken_over(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    left = tmp_path / "segments" / f"0000000000001-000001{segments.OPEN}"
    whole = b"".join(segments.encoded(LoggedLabels([])))
    left.write_bytes(whole * 2 + whole[:-1])  # the kill has cut off the last block

    with logging_service(saved.as_uri(), tmp_path) as client:
        client.post("/predict", json={"instances": [ROW]}, headers={"X-Request-ID": "next"})

    first, second = segments.closed(tmp_path / "segments")
    assert first.name == f"0000000000001-000001{segments.CLOSED}"
    assert list(segments.blocks(first.read_bytes())) == [LoggedLabels([])] * 2
    assert request_ids(list(segments.blocks(second.read_bytes()))) == ["next"]


@pytest.mark.parametrize("damage", [b"", b"MSL1", b"MSL1\0\0\0\1\0\0\0\0x", b"other bytes than a block"])
def test_damaged_block_ends_a_segment(damage: bytes) -> None:
    whole = b"".join(segments.encoded(LoggedLabels([])))

    assert list(segments.blocks(whole + damage)) == [LoggedLabels([])]


def test_kill_loses_only_the_last_requests(saved: Path, tmp_path: Path) -> None:
    """Requests are sent one after the other, so that the log of a killed process must be their beginning."""
    (tmp_path / "segments").mkdir()
    variables = {
        "MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO": "1",
        "MODEL_SERVICE_PAYLOAD_DIR": str(tmp_path / "segments"),
        "MODEL_SERVICE_PAYLOAD_FLUSH_SECONDS": "0.5",
    }
    sent: list[tuple[str, float]] = []
    with (
        running_service(saved.as_uri(), tmp_path, **variables) as service,
        httpx.Client(base_url=service.address, timeout=300) as client,
    ):
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                identity = f"r{len(sent)}"
                try:
                    client.post("/predict", json={"instances": [ROW]}, headers={"X-Request-ID": identity})
                except httpx.TransportError:
                    return
                sent.append((identity, time.time()))

        thread = threading.Thread(target=send)
        thread.start()
        until(lambda: len(_in_open_segment(tmp_path)) > 100, 300)
        os.kill(service.process.pid, signal.SIGKILL)
        killed = time.time()
        stop.set()
        thread.join(300)

    logged_ids = _in_open_segment(tmp_path)
    answered = [identity for identity, _ in sent]
    assert logged_ids == [*answered, f"r{len(answered)}"][: len(logged_ids)]  # the last may have had no answer
    lost = [moment for identity, moment in sent if identity not in set(logged_ids)]
    seconds = killed - min(lost, default=killed)
    print(f"a kill lost {len(lost)} of {len(answered)} requests, those of the last {seconds:.2f} s")


def _in_open_segment(tmp_path: Path) -> list[str]:
    found = list((tmp_path / "segments").glob(f"*{segments.OPEN}"))
    return request_ids(list(segments.blocks(found[0].read_bytes()))) if found else []
