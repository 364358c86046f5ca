"""The payload log: sampling, redaction, limits, and no delay of requests."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.logs import JsonFormatter
from app.monitoring import payload
from tests.app.harness import COLUMNS, MODEL, SERVICE, process, serving, settings_for
from tools.loopback import until

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}
SPLIT = {"columns": ["count", "texture", "mean radius"], "data": [[3, 0.25, 0.5], [4, 0.125, None]]}


class Lines:
    """The payload lines of the log."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def __call__(self, count: int) -> list[dict[str, Any]]:
        """Wait until `count` payload lines are logged, and return them."""
        until(lambda: len(self._found()) >= count)
        return self._found()

    def _found(self) -> list[dict[str, Any]]:
        lines = map(json.loads, self.text.getvalue().splitlines())
        return [line for line in lines if line["logger"] == payload.__name__]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    handler = logging.StreamHandler(found.text)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    yield found
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def logging_client(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Yield a service that logs every payload and redacts the column texture."""
    changes = {"payload_sample_ratio": 1, "payload_redact": '["texture"]', "model_name": MODEL}
    with serving(settings_for(saved.as_uri(), tmp_path_factory.mktemp("payload"), **changes)) as client:
        yield client


def test_payload_log_is_off_by_default(client: TestClient, lines: Lines) -> None:
    assert client.post("/predict", json={"instances": [ROW]}).status_code == 200

    assert client.app.state.service.loaded.payloads is None  # type: ignore[attr-defined]
    assert lines(0) == []


def test_line_contains_rows_and_predictions(logging_client: TestClient, lines: Lines) -> None:
    answer = logging_client.post("/predict", json={"instances": [ROW]}, headers={"X-Request-ID": "abc"}).json()

    (line,) = lines(1)
    del line["time"]
    assert line == {
        "level": "info",
        "logger": "app.monitoring.payload",
        "message": "prediction",
        "request_id": "abc",
        "model": MODEL,
        "version": answer["model"]["version"],
        "rows": 1,
        "columns": COLUMNS,
        "data": [[0.5, "REDACTED", 3]],
        "predictions": answer["predictions"],
    }


def test_split_form_is_logged_in_the_order_of_the_request(logging_client: TestClient, lines: Lines) -> None:
    answer = logging_client.post("/predict", json=SPLIT).json()

    (line,) = lines(1)
    assert line["columns"] == SPLIT["columns"]
    assert line["data"] == [[3, "REDACTED", 0.5], [4, "REDACTED", None]]
    assert line["predictions"] == answer["predictions"]


def test_rows_predicted_in_a_thread_are_logged_too(logging_client: TestClient, lines: Lines) -> None:
    logging_client.post("/predict", json={"instances": [ROW] * 101}, headers={"X-Request-ID": "many"})

    (line,) = lines(1)
    assert (line["request_id"], line["rows"], len(line["data"]), len(line["predictions"])) == ("many", 101, 101, 101)


def test_long_line_is_truncated_after_a_row(
    logging_client: TestClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "LINE_BYTES", 2000)

    logging_client.post("/predict", json={"instances": [ROW] * 100})

    (line,) = lines(1)
    assert line["rows"] == 100
    assert 0 < len(line["data"]) == len(line["predictions"]) < 100
    assert len(json.dumps([line["columns"], line["data"], line["predictions"]])) < 2000


@pytest.mark.parametrize("body", [{"instances": [{"texture": "geheim"}]}, {"instances": []}, [1]])
def test_rejected_payload_is_not_logged(logging_client: TestClient, lines: Lines, body: Any) -> None:
    assert logging_client.post("/predict", json=body).status_code == 422
    logging_client.post("/predict", json={"instances": [ROW]}, headers={"X-Request-ID": "after"})

    assert [line["request_id"] for line in lines(1)] == ["after"]


def test_share_of_the_requests_is_sampled(saved: Path, tmp_path: Path, lines: Lines) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path, payload_sample_ratio=0.5, log_level="error")) as client:
        payloads = client.app.state.service.loaded.payloads  # type: ignore[attr-defined]
        for _ in range(200):
            client.post("/predict", json={"instances": [ROW]})
        until(lambda: payloads._waiting == 0)

    assert 60 < len(lines(1)) < 140  # more than five standard deviations


def test_full_queue_does_not_delay_requests(
    logging_client: TestClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, payloads = threading.Event(), logging_client.app.state.service.loaded.payloads  # type: ignore[attr-defined]
    monkeypatch.setattr(payload, "WAITING", 3)
    payloads._thread.submit(blocked.wait)

    answers = [logging_client.post("/predict", json={"instances": [ROW]}).status_code for _ in range(10)]
    blocked.set()

    assert answers == [200] * 10
    assert len(lines(3)) == 3
    until(lambda: payloads._waiting == 0)
    logging_client.post("/predict", json={"instances": [ROW]})
    assert [line.get("left_out") for line in lines(4)] == [None, None, None, 7]


def test_unknown_redacted_column_ends_the_process(saved: Path, tmp_path: Path) -> None:
    variables = {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO": "0.1",
        "MODEL_SERVICE_PAYLOAD_REDACT": '["texture", "Texture"]',
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
    }
    with process(SERVICE, tmp_path / "log", **variables) as running:
        assert running.wait(30) == 1

    assert (tmp_path / "termination").read_text() == (
        f"Cannot load {saved.as_uri()}: the payload log is set to redact 'Texture', but the model has no such column; "
        "correct MODEL_SERVICE_PAYLOAD_REDACT (logging.payload.redact in the chart).\n"
    )


def test_last_lines_are_written_on_shutdown(tmp_path: Path) -> None:
    program = """
import time
from app import logs
from app.monitoring import payload
from app.model.files import Provenance
from app.settings import Settings

logs.configure("error")
one = payload.PayloadLog(Settings(model_uri="file:///m", payload_sample_ratio=1), Provenance("m", "1", ""), ["a"])
one._thread.submit(time.sleep, 0.3)
one.offer(lambda: {"instances": [{"a": 1}]}, [2.0], lambda _: {})
"""
    with process(["-c", program], tmp_path / "log") as running:
        assert running.wait(30) == 0

    assert json.loads((tmp_path / "log").read_text())["data"] == [[1]]
