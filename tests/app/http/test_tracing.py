"""Traces, received over HTTP as OTLP messages."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.harness import SERVICE, logged, process, running_service, serving, settings_for, silent_server
from tests.prometheus import prometheus
from tools.loopback import answers, free_port, until

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ("queue", "validate", "predict", "respond")


class Collector:
    """An OTLP/HTTP receiver on a local port.

    Args:
        status: Status of its responses.
    """

    def __init__(self, status: int = 200) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.paths.add(self.path)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Suppress the log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self, count: int) -> list[Span]:
        """Wait until `count` spans have arrived, and return them by start time."""

        def found() -> list[Span]:
            groups = [group for request in self.requests for group in request.resource_spans]
            return [span for group in groups for scope in group.scope_spans for span in scope.spans]

        until(lambda: len(found()) >= count)
        return sorted(found(), key=lambda span: span.start_time_unix_nano)

    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[0].resource_spans[0].resource.attributes)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    yield found
    found.close()


@pytest.fixture
def traced(collector: Collector, saved: Path, tmp_path: Path) -> Iterator[TestClient]:
    """Yield a service that exports its traces to the collector every 50 ms."""
    assert collector.url
    with serving(settings_for(saved.as_uri(), tmp_path, app_name="churn")) as client:
        yield client


@pytest.mark.parametrize("count", [1, 101])  # 101 rows run in a thread
def test_prediction_is_one_span_with_its_stages(traced: TestClient, collector: Collector, count: int) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    begin = time.time_ns()
    answer = traced.post("/predict?secret=geheim", json={"instances": [ROW] * count}, headers=headers)

    (span,) = collector.spans(1)
    assert answer.status_code == 200
    assert (span.name, span.kind, span.status.code) == ("POST /predict", Span.SPAN_KIND_SERVER, 0)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "vendor=1")
    assert begin <= span.start_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()
    found = attributes(span.attributes)
    stages = [found.pop(f"model_service.{stage}_seconds") for stage in STAGES]
    assert all(0 <= seconds < 5 for seconds in stages)
    assert sum(stages) * 1e9 <= span.end_time_unix_nano - span.start_time_unix_nano
    assert found == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/predict",
        "network.protocol.version": "1.1",
        "model_service.rows": count,
    }
    assert collector.paths == {"/v1/traces"}
    assert {"service.name": "churn", "telemetry.sdk.language": "python"}.items() <= collector.resource().items()


@pytest.mark.parametrize(
    ("method", "path", "status", "name", "route"),
    [
        ("GET", "/model", 200, "GET /model", "/model"),
        ("GET", "/predict", 405, "GET /predict", "/predict"),
        ("POST", "/predict", 422, "POST /predict", "/predict"),
        ("GET", "/nothing", 404, "GET", None),
        ("ATTACK", "/predict", 405, "HTTP /predict", "/predict"),
        ("ATTACK", "/nothing", 405, "HTTP", None),
    ],
)
def test_other_responses_are_spans_too(
    traced: TestClient, collector: Collector, method: str, path: str, status: int, name: str, route: str | None
) -> None:
    assert traced.request(method, path, json={"instances": [{"texture": "geheim"}]}).status_code == status

    (span,) = collector.spans(1)
    found = attributes(span.attributes)
    assert (span.name, found.get("http.route"), found["http.response.status_code"]) == (name, route, status)
    assert (span.parent_span_id, span.status.code) == (b"", 0)
    assert "geheim" not in str(span)


def test_failed_request_is_an_error_span(
    traced: TestClient, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    coalescer = traced.app.state.service.loaded.coalescer  # type: ignore[attr-defined]
    monkeypatch.setattr(coalescer, "predict", lambda *_: 1 / 0)

    assert traced.post("/predict", json={"instances": [ROW]}).status_code == 500

    (span,) = collector.spans(1)
    assert (span.status.code, span.status.message) == (2, "")
    assert attributes(span.attributes)["error.type"] == "500"
    assert not span.events


def test_probes_and_scrapes_create_no_spans(traced: TestClient, collector: Collector) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        traced.get(path)
    traced.get("/model")

    assert [span.name for span in collector.spans(1)] == ["GET /model"]


def test_log_lines_contain_the_trace_id(traced: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    coalescer = traced.app.state.service.loaded.coalescer  # type: ignore[attr-defined]
    monkeypatch.setattr(coalescer, "predict", lambda *_: 1 / 0)
    with logged() as lines:
        for sampled in ("01", "00"):
            traced.post(
                "/predict", json={"instances": [ROW]}, headers={"traceparent": f"00-{TRACE}-{PARENT}-{sampled}"}
            )

    assert [line["trace_id"] for line in lines if line["level"] == "error"] == [TRACE, TRACE]


def test_sampler_samples_a_share_and_respects_the_client(
    collector: Collector, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with serving(settings_for(saved.as_uri(), tmp_path)) as client:
        for _ in range(20):
            client.get("/model")
        client.get("/model", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        client.get("/model", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        client.get("/model", headers={"traceparent": "00-nonsense"})

    assert [span.trace_id.hex() for span in collector.spans(1)] == [TRACE]


def test_latency_links_to_the_sampled_trace_in_prometheus(collector: Collector, saved: Path, tmp_path: Path) -> None:
    asked, unsampled = "1" * 32, "2" * 32
    place = tmp_path / "prometheus"
    place.mkdir()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with running_service(saved.as_uri(), tmp_path, **variables) as service:
        for trace, sampled in ((asked, "01"), (unsampled, "00")):
            headers = {"traceparent": f"00-{trace}-{PARENT}-{sampled}"}
            httpx.post(f"{service.address}/predict", json={"instances": [ROW]}, headers=headers, timeout=300)
        plain = httpx.get(f"{service.address}/metrics", timeout=300).text
        with prometheus(place, [service.address.removeprefix("http://")]) as address:
            series = 'http_server_request_duration_seconds_bucket{path="/predict"}'
            query: dict[str, str | float] = {"query": series, "start": time.time() - 300, "end": time.time() + 300}
            found = lambda: httpx.get(f"{address}/api/v1/query_exemplars", params=query, timeout=300).json()["data"]  # noqa: E731
            ((exemplar,),) = (each["exemplars"] for each in until(found))

    (span,) = collector.spans(1)
    assert exemplar["labels"] == {"trace_id": span.trace_id.hex()} == {"trace_id": asked}
    assert 0 < float(exemplar["value"]) <= (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 + 0.001
    assert asked not in plain


def test_last_spans_are_exported_on_shutdown(saved: Path, tmp_path: Path) -> None:
    collector, port = Collector(), free_port()
    with process(SERVICE, tmp_path / "log", **environment(saved, tmp_path, port, collector.url)) as running:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        assert answers(f"http://127.0.0.1:{port}/model")
        running.terminate()
        assert running.wait(20) == 0

    assert [span.name for span in collector.spans(1)] == ["GET /model"]
    collector.close()


@pytest.mark.parametrize("kind", ["refused", "silent", "failing"])
def test_failing_collector_affects_no_request(saved: Path, tmp_path: Path, kind: str) -> None:
    failing = Collector(503)
    url = {"refused": "http://127.0.0.1:9", "silent": silent_server(), "failing": failing.url}[kind]
    port = free_port()
    changes = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    with process(SERVICE, tmp_path / "log", **environment(saved, tmp_path, port, url), **changes) as running:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        begin = time.monotonic()
        assert all(answers(f"http://127.0.0.1:{port}/model") for _ in range(100))
        assert time.monotonic() - begin < 5
        begin = time.monotonic()
        running.terminate()
        assert running.wait(20) == 0
        assert time.monotonic() - begin < 5

    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len([line for line in lines if line["logger"].startswith("opentelemetry")]) < 20
    failing.close()


def test_sdk_is_not_imported_without_an_endpoint(saved: Path, tmp_path: Path) -> None:
    program = """
import sys
from app.main import create_app
from app.settings import Settings

create_app(Settings(model_uri="file:///m"))
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "google"))])
"""
    with process(["-c", program], tmp_path / "log") as running:
        assert running.wait(30) == 0

    assert (tmp_path / "log").read_text() == "[]\n"
    assert create_app(settings_for(saved.as_uri(), tmp_path)).state.tracing is None


@pytest.mark.parametrize(
    "address", ["collector:4318", "grpc://collector:4317", "http://", "http://me:geheim@collector"]
)
def test_invalid_endpoint_ends_the_process_immediately(saved: Path, tmp_path: Path, address: str) -> None:
    with process(SERVICE, tmp_path / "log", **environment(saved, tmp_path, free_port(), address)) as running:
        assert running.wait(30) == 1

    assert (tmp_path / "termination").read_text() == (
        "The service is misconfigured: OTEL_EXPORTER_OTLP_ENDPOINT: must be an http:// or https:// address "
        "without credentials, such as http://collector:4318\n"
    )


def environment(saved: Path, tmp_path: Path, port: int, collector: str) -> dict[str, str]:
    return {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_PORT": str(port),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
