"""Tests of panels whose input series may be absent, such as a profile or a limit. promtool evaluates them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import Promtool
from tests.charts.test_fleet import A, evaluated, queries
from tools.charts import MODEL_SERVICE

MINUTES, AT = 20, "20m"
POD = f'{A},pod="churn-1",instance="1"'
MODEL = f'{POD},model_name="churn",model_version="7"'
OTHER = f'{A},pod="churn-2",instance="2",model_name="churn",model_version="8"'
OF_POD = 'namespace="a",pod="churn-1",container="app"'
REFERENCE = 'role="feature",variable="age",bin="00"'

# Start value and increase per minute of each series.
type Inputs = dict[str, tuple[float, float]]


def shown(name: str) -> dict[str, str]:
    """Return the queries of a dashboard by panel title."""
    return queries(json.loads((MODEL_SERVICE / "files" / "dashboards" / f"{name}.json").read_text()))


def shows(
    promtool: Promtool, dashboard: str, panel: str, inputs: Inputs, expected: list[tuple[str, float]], folder: Path
) -> bool:
    """Return whether the last query of a panel returns exactly these samples for these input series."""
    series = [{"series": labels, "values": f"{start}+{rise}x{MINUTES}"} for labels, (start, rise) in inputs.items()]
    samples: list[dict[str, Any]] = [{"labels": f"{{{labels}}}", "value": value} for labels, value in expected]
    case = {"expr": f"round({shown(dashboard)[panel]}, 0.001)", "eval_time": AT, "exp_samples": samples}
    return "SUCCESS" in evaluated(promtool, [case], series, folder)


@pytest.mark.parametrize(
    ("profiled", "without"), [((), 2), ((MODEL,), 1), ((MODEL, OTHER), 0)], ids=["none", "one", "both"]
)
def test_models_without_a_profile_are_counted(
    promtool: Promtool, profiled: tuple[str, ...], without: int, tmp_path: Path
) -> None:
    inputs: Inputs = {f"model_info{{{labels}}}": (1, 0) for labels in (MODEL, OTHER)}
    inputs |= {f"model_reference_distribution_ratio{{{labels},{REFERENCE}}}": (0.5, 0) for labels in profiled}

    assert shows(promtool, "model", "Models without a profile", inputs, [("", without)], tmp_path)
    assert shows(promtool, "model", "Models", inputs, [("", 2)], tmp_path)


def test_throttling_is_zero_without_a_cpu_limit(promtool: Promtool, tmp_path: Path) -> None:
    inputs: Inputs = {f"up{{{POD}}}": (1, 0)}
    limited: Inputs = {
        f"container_cpu_cfs_periods_total{{{OF_POD}}}": (0, 600),
        f"container_cpu_cfs_throttled_periods_total{{{OF_POD}}}": (0, 150),
    }

    assert shows(promtool, "service", "CPU throttling", inputs, [('pod="churn-1"', 0)], tmp_path)
    assert shows(promtool, "service", "CPU throttling", inputs | limited, [('pod="churn-1"', 0.25)], tmp_path)


def test_memory_limit_comes_from_either_exporter(promtool: Promtool, tmp_path: Path) -> None:
    ours: Inputs = {f"container_spec_memory_limit_bytes{{{OF_POD}}}": (512, 0)}
    unlimited: Inputs = {f"container_spec_memory_limit_bytes{{{OF_POD}}}": (0, 0)}
    theirs: Inputs = {f'kube_pod_container_resource_limits{{{OF_POD},resource="memory"}}': (1024, 0)}

    assert shows(promtool, "service", "Memory usage", ours, [("", 512)], tmp_path)
    assert shows(promtool, "service", "Memory usage", unlimited, [], tmp_path)
    assert shows(promtool, "service", "Memory usage", unlimited | theirs, [("", 1024)], tmp_path)


def test_spent_error_budget(promtool: Promtool, tmp_path: Path) -> None:
    recorded: Inputs = {
        f"job:http_server_errors:rate5m{{{A}}}": (0.02, 0),
        f"job:http_server_requests:rate5m{{{A}}}": (10, 0),
        f"job:slo_availability:ratio{{{A}}}": (0.99, 0),
    }

    assert shows(promtool, "service", "Error budget spent", recorded, [("", 0.2)], tmp_path)
