"""What a small pod needs, and what 300 models cost: docs/how-to/gitops.md."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.app.harness import Running, running_service
from tests.charts.harness import MINIMAL, Promtool, container, environment, only
from tools.bench.models import Model, train
from tools.charts import MODEL_SERVICE, Object, render
from tools.cluster.cache import ROOT

PAGE = (ROOT / "docs" / "how-to" / "gitops.md").read_text()
PROFILES: dict[str, list[Path]] = {"default": [], "values-small.yaml": [MODEL_SERVICE / "values-small.yaml"]}
MODELS, PODS = 300, 2
# Series of a pod with 30 numeric features after requests of each kind, and series that the rules record for one model.
SERIES = {"default": (775, 1612), "values-small.yaml": (385, 472)}
MIB = 1024  # in KiB, the unit of /proc
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


def objects(profile: str) -> list[Object]:
    values = {**MINIMAL, "monitoring": {"prometheusRule": {"enabled": True}}}
    return render(MODEL_SERVICE, values, files=PROFILES[profile])


def mebibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Mi"))


def memory(service: Running, key: str) -> int:
    """Return a memory figure of the service's process, in KiB: VmRSS (now) or VmHWM (the highest so far)."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0])


def post(service: Running, path: str, model: Model, rows: int) -> None:
    body = json.dumps({"columns": model.columns, "data": model.rows(rows)}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own
        service.address + path, data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        answer.read()


def samples(service: Running) -> list[str]:
    with urllib.request.urlopen(f"{service.address}/metrics", timeout=300) as answer:  # noqa: S310 - our own
        return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Model with 30 features and 100 trees."""
    return train(tmp_path_factory.mktemp("model") / "model", 30, 100)


@pytest.fixture(scope="module", params=PROFILES)
def measured(
    request: pytest.FixtureRequest, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[str], dict[str, int]]:
    """Profile, samples and memory of a service with the settings of the profile, after requests of each kind."""
    settings = {
        name: value
        for name, value in environment(objects(request.param)).items()
        if re.match("MODEL_SERVICE_(API|DRIFT|LATENCY|MAX|QUEUE)_", name)
    }
    assert "MODEL_SERVICE_DRIFT_MAX_FEATURES" in settings
    with running_service(model.folder.as_uri(), tmp_path_factory.mktemp("service"), **settings) as service:
        for path, rows in (("/predict", 1), ("/predict", 1000), ("/explain", 100)):
            post(service, path, model, rows)
        figures = {key: memory(service, key) for key in ("VmRSS", "VmHWM")}
        return request.param, samples(service), figures


def inputs(lines: list[str]) -> list[dict[str, str]]:
    """Return the samples of two pods as series of promtool: counters grow, gauges keep their value."""
    found = []
    for pod in range(PODS):
        where = f'namespace="models",job="demo-model-service",pod="{pod}",instance="{pod}"'
        for line in lines:
            name, labels, value = SAMPLE.fullmatch(line).groups()  # type: ignore[union-attr]
            values = "0+5x480" if name.endswith(("_total", "_bucket", "_count", "_sum")) else f"{float(value)!r}x480"
            found.append({"series": f"{name}{{{where}{',' if labels else ''}{labels or ''}}}", "values": values})
    return found


def test_requests_and_limits_fit_a_model_with_30_features(measured: tuple[str, list[str], dict[str, int]]) -> None:
    profile, _, figures = measured
    resources = container(objects(profile))["resources"]

    assert figures["VmRSS"] < mebibytes(resources["requests"]["memory"]) * MIB
    assert figures["VmHWM"] < mebibytes(resources["limits"]["memory"]) * MIB / 2, (
        "room for bodies and for more features"
    )


def test_number_of_series_is_the_documented_one(
    measured: tuple[str, list[str], dict[str, int]], promtool: Promtool, tmp_path: Path
) -> None:
    profile, lines, _ = measured
    scraped, recorded = SERIES[profile]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(only(objects(profile), "PrometheusRule")["spec"]))
    count = {
        "expr": 'count({__name__=~".+:.+"})',
        "eval_time": "2h",
        "exp_samples": [{"labels": "{}", "value": recorded}],
    }
    test: dict[str, Any] = {"interval": "15s", "input_series": inputs(lines), "promql_expr_test": [count]}
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    assert len(lines) == scraped
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "test.yaml")


@pytest.mark.parametrize("profile", PROFILES)
def test_page_has_the_sum_for_300_models(profile: str) -> None:
    requests = container(objects(profile))["resources"]["requests"]
    scraped, recorded = SERIES[profile]
    cores = MODELS * PODS * int(requests["cpu"].removesuffix("m")) / 1000
    gibibytes = MODELS * PODS * mebibytes(requests["memory"]) / 1024

    row = (
        f"| {requests['cpu']}, {requests['memory']} | {scraped} | {recorded} | {cores:g} cores | {gibibytes:g} GiB |"
        f" {MODELS * (PODS * scraped + recorded):,} |"
    )
    assert row in PAGE
