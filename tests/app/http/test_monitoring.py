"""The port for probes and scrapes."""

import http.client
import json
import threading
import time
from pathlib import Path
from statistics import quantiles
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from pydantic import ValidationError

from app.service import STUCK_SECONDS, Service
from tests.app.harness import COLUMNS, SERVICE, Running, environment, process, settings_for
from tools.loopback import answers, free_port, until

BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]})
PATHS = ("/metrics", "/health", "/health/live", "/health/ready")
SCRAPERS = 8


def status(url: str) -> int:
    try:
        with urlopen(url, timeout=300) as answer:  # noqa: S310 - our own service
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def latencies(here: Running, seconds: float) -> list[float]:
    """Return the duration of requests with one row from one client."""
    connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=300)
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        found.append(time.perf_counter() - begin)
    connection.close()
    return found


def test_monitoring_port_alone_serves_health_and_metrics(saved: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = environment(saved.as_uri(), tmp_path, MODEL_SERVICE_MONITORING_PORT=str(port))
    api, monitoring = f"http://127.0.0.1:{variables['MODEL_SERVICE_PORT']}", f"http://127.0.0.1:{port}"
    with process(SERVICE, tmp_path / "log", **variables) as started:
        until(lambda: answers(f"{monitoring}/health/ready"))

        assert {path: status(monitoring + path) for path in PATHS} == dict.fromkeys(PATHS, 200)
        assert {path: status(api + path) for path in PATHS} == dict.fromkeys(PATHS, 404)
        assert (status(f"{api}/model"), status(f"{monitoring}/model")) == (200, 404)
        with urlopen(f"{api}/openapi.json") as answer:  # noqa: S310
            assert not [path for path in json.load(answer)["paths"] if path in PATHS]
        started.terminate()
        assert started.wait(20) == 0


def test_flood_of_scrapes_shares_responses(saved: Path, tmp_path: Path) -> None:
    """Each scrape waits for the next build, and builds are rare: the clients get few responses."""
    port = free_port()
    variables = environment(saved.as_uri(), tmp_path, MODEL_SERVICE_MONITORING_PORT=str(port))
    with process(SERVICE, tmp_path / "log", **variables) as started:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        here = Running(started, int(variables["MODEL_SERVICE_PORT"]), tmp_path / "log")
        ended = threading.Event()
        counts = [0] * SCRAPERS

        def scrape(number: int) -> None:
            while not ended.is_set():
                assert status(f"http://127.0.0.1:{port}/metrics") == 200
                counts[number] += 1

        quiet = latencies(here, 2)
        threads = [threading.Thread(target=scrape, args=(number,)) for number in range(SCRAPERS)]
        for thread in threads:
            thread.start()
        flooded = latencies(here, 3)
        ended.set()
        for thread in threads:
            thread.join()

    # Each build rests for 20 times its duration, and every client waits for one.
    assert max(counts) - min(counts) <= 2
    assert max(counts) < 3 * 1000 / 20
    print(f"p99 {quantiles(quiet, n=100)[98] * 1e3:.2f} ms, flooded {quantiles(flooded, n=100)[98] * 1e3:.2f} ms")


def test_port_in_use_ends_the_process_with_the_reason(saved: Path, tmp_path: Path) -> None:
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = environment(
            saved.as_uri(), tmp_path, MODEL_SERVICE_MONITORING_PORT=str(port), MODEL_SERVICE_HOST="127.0.0.1"
        )
        with process(SERVICE, tmp_path / "log", **variables) as started:
            assert started.wait(60) == 1
    message = (tmp_path / "termination").read_text()
    assert message == f"The monitoring port {port} cannot be used: set a free MONITORING_PORT.\n"


def test_ports_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="MODEL_SERVICE_MONITORING_PORT must differ from the other ports"):
        settings_for("file:///model", tmp_path, port=8000, monitoring_port=8000)


def test_liveness_follows_the_event_loop_of_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(settings_for("file:///model", tmp_path))
    assert not service.stuck  # nothing serves yet
    service.note_loop()
    now = time.monotonic()

    monkeypatch.setattr(time, "monotonic", lambda: now + STUCK_SECONDS + 1)
    stuck = service.stuck
    service.note_loop()

    assert (stuck, service.stuck) == (True, False)
