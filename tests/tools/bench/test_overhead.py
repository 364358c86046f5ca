"""Tests that the overhead of metrics is computed per round and that too much of it fails."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.app.harness import environment, process
from tools.bench import log_cost
from tools.bench.models import encode, train
from tools.bench.overhead import summary, too_much
from tools.cluster.cache import ROOT
from tools.loopback import answers, until

COUNTED = {
    "http_server_request_duration_seconds_count",
    "http_server_requests_total",
    "model_caller_requests_total",
    "model_caller_rows_total",
    "model_distribution_values_total",
    "model_inference_duration_seconds_count",
    "model_predictions_total",
    "model_request_rows_count",
}


def test_ratios_are_computed_per_round() -> None:
    assert summary([(110, 100), (240, 200), (330, 300)]) == {"on_us": 240, "off_us": 200, "more": 0.1}


@pytest.mark.parametrize(("one", "hundred", "expected"), [(0.1, 0.5, False), (0.21, 0.0, True)])
def test_single_row_requests_decide_the_status(one: float, hundred: float, expected: bool) -> None:
    assert too_much("metrics", {"loads": {"1 x 16": {"more": one}, "100 x 16": {"more": hundred}}}) == expected


@pytest.mark.parametrize(("more", "expected"), [(0.05, False), (0.06, True)])
def test_challenger_may_cost_a_twentieth(more: float, expected: bool) -> None:
    assert too_much("challenger", {"loads": {"1 x 1": {"more": more}}}) == expected


@pytest.mark.parametrize(("more", "expected"), [(0.03, False), (0.04, True)])
def test_log_may_cost_three_hundredths(more: float, expected: bool) -> None:
    assert too_much("log", {"loads": {"1 x 1": {"more": more}}}) == expected


@pytest.mark.parametrize("as_json", [False, True])
def test_cost_of_the_log_is_measured(as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cost, "ROUNDS", 2)

    assert log_cost.cost(train(tmp_path / "model", 20, 10), 3, as_json=as_json) > 0


@pytest.mark.parametrize(("module", "silent"), [("app", False), ("tools.bench.rivals.unmetered", True)])
def test_without_metrics_nothing_is_counted(module: str, silent: bool, tmp_path: Path) -> None:
    model = train(tmp_path / "model", 20, 10)
    variables = environment(model.folder.as_uri(), tmp_path)
    address = f"http://127.0.0.1:{variables['MODEL_SERVICE_PORT']}"
    body = encode({"columns": model.columns, "data": model.rows(3)})
    with process(["-m", module], tmp_path / "log", **variables):
        until(lambda: answers(f"{address}/health/ready"))
        request = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310 - our own server
        with urllib.request.urlopen(f"{address}/metrics") as answer:  # noqa: S310
            lines = answer.read().decode().splitlines()
    series = [line.rpartition(" ") for line in lines if line.startswith(("model_", "http_server_"))]
    names = {name.partition("{")[0] for name, _, value in series if float(value)}
    assert {name for name in names if name.endswith(("_total", "_count"))} == (set() if silent else COUNTED)


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "title"), [("metrics", "the metrics"), ("challenger", "a challenger"), ("log", "the inference log")]
)
def test_service_is_measured_with_and_without(what: str, title: str) -> None:
    arguments = [what, "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert f"## Cost of {title}" in done.stdout, done.stdout + done.stderr
    assert "| 100 x 16 |" in done.stdout
