"""Tests of the fleet dashboard's queries and annotations on known series, evaluated by promtool."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.charts.harness import Promtool
from tools.charts import MODEL_SERVICE

FLEET = json.loads((MODEL_SERVICE / "files" / "dashboards" / "fleet.json").read_text())
CHOSEN = {"$namespace": ".+", "$job": ".+", "$instance": ".+", "$version": ".+", "$__rate_interval": "2m"}
MINUTES, UPDATE, AT = 60, 30, "50m"
# Two releases with the same name in two namespaces. `a` has two pods, and one of them is updated halfway.
A, B = 'namespace="a",job="churn"', 'namespace="b",job="churn"'
# Expected value per release, by panel title or table column.
EACH = {
    "pods": (2, 1),
    "models": (2, 1),
    "alerts": (2, 0),
    "request rate": (5, 1),
    "error ratio": (0.2, 0),
    "p99 latency": (0.099, 0.199),
    "prediction drift": (0.3, 0.05),
    "weighted drift": (0.12, 0.02),
    "Request rate by release": (5, 1),
    "Error ratio by release": (0.2, 0),
    "p99 latency by release": (0.099, 0.199),
    "Burn rate by release": (20, 0.5),
    "Prediction drift by release": (0.3, 0.05),
    "Feature drift by release": (0.4, 0.01),
    "Models by release": (2, 1),
    "Firing alerts by release": (2, 0),
    "Model age by release": (3000 - 600, 3000 - 1200),
}
ALL = {
    "Releases": 2,
    "Pods": 3,
    "Firing alerts": 2,
    "Request rate": 6,
    "Highest error ratio": 0.2,
    "Highest drift": 0.3,
}


def series() -> list[dict[str, str]]:
    """Return the series of both releases, with one sample per minute."""

    def one(name: str, labels: str, values: str) -> dict[str, str]:
        return {"series": f"{name}{{{labels}}}", "values": values}

    def same(name: str, labels: str, value: float) -> dict[str, str]:
        return one(name, labels, f"{value}x{MINUTES}")

    def rising(name: str, labels: str, per_second: float) -> dict[str, str]:
        return one(name, labels, f"0+{per_second * 60}x{MINUTES}")

    requests, seconds = "http_server_requests_total", "http_server_request_duration_seconds_bucket"
    answers = 'path="/predict",status_code'
    found = [
        same("model_info", f'{A},instance="a1",model_version="7",sha256="aa"', 1),
        one("model_info", f'{A},instance="a2",model_version="7",sha256="aa"', f"1x{UPDATE - 1} stale"),
        one("model_info", f'{A},instance="a2",model_version="8",sha256="bb"', f"_x{UPDATE} 1x{MINUTES - UPDATE}"),
        same("model_info", f'{B},instance="b1",model_version="1",sha256="cc"', 1),
        rising(requests, f'{A},instance="a1",{answers}="200"', 3),
        rising(requests, f'{A},instance="a2",{answers}="200"', 1),
        rising(requests, f'{A},instance="a1",{answers}="500"', 0.5),
        rising(requests, f'{A},instance="a2",{answers}="503"', 0.5),
        rising(requests, f'{B},instance="b1",{answers}="200"', 1),
        same("ALERTS", f'{A},alertname="ModelPredictionDrift",alertstate="firing"', 1),
        same("ALERTS", f'{A},alertname="ModelVersionSkew",alertstate="firing"', 1),
        same("ALERTS", f'{B},alertname="ModelStale",alertstate="pending"', 1),
        same("model_trained_timestamp_seconds", f'{A},instance="a1",model_version="7"', 600),
        same("model_trained_timestamp_seconds", f'{A},instance="a2",model_version="8"', 900),
        same("model_trained_timestamp_seconds", f'{B},instance="b1",model_version="1"', 1200),
        same("job:slo_availability:ratio", A, 0.99),
        same("job:slo_availability:ratio", B, 0.9),
        same("job:http_server_errors:ratio_rate1h", A, 0.2),
        same("job:http_server_errors:ratio_rate1h", B, 0.05),
        same("model:feature_psi_importance_weighted:short", f'{A},model_version="7"', 0.12),
        same("model:feature_psi_importance_weighted:short", f'{A},model_version="8"', 0.01),
        same("model:feature_psi_importance_weighted:short", f'{B},model_version="1"', 0.02),
    ]
    for release, role, values in (
        (A, "prediction", (0.3,)),
        (B, "prediction", (0.05,)),
        (A, "feature", (0.1, 0.4)),
        (B, "feature", (0.01, 0.005)),
    ):
        for number, psi in enumerate(values):
            labels = f'{release},model_version="1",role="{role}",variable="{number}"'
            found.append(same("model:distribution_psi:short", labels, psi))
    for release, bounds in ((A, {"0.1": 1, "0.2": 1, "+Inf": 1}), (B, {"0.1": 0, "0.2": 1, "+Inf": 1})):
        for bound, rate in bounds.items():
            found.append(rising(seconds, f'{release},instance="1",{answers}="200",le="{bound}"', rate))
    return found


def filled(expression: str) -> str:
    """Return a query with its Grafana variables replaced."""
    for variable, value in CHOSEN.items():
        expression = expression.replace(variable, value)
    return expression


def queries(dashboard: dict[str, Any] = FLEET) -> dict[str, str]:
    """Return the queries of a dashboard by panel title, or by column for tables. The last query of a panel wins."""
    found: dict[str, str] = {}
    for panel in dashboard["panels"]:
        renamed = {
            key.removeprefix("Value #"): name
            for transform in panel.get("transformations", [])
            for key, name in transform["options"].get("renameByName", {}).items()
        }
        for target in panel.get("targets", []):
            found[renamed.get(target.get("refId"), panel["title"])] = filled(target["expr"])
    return found


def evaluated(promtool: Promtool, cases: list[dict[str, Any]], inputs: list[dict[str, str]], folder: Path) -> str:
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": cases}
    document = {"rule_files": [], "evaluation_interval": "1m", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    return promtool(folder, "test", "rules", "test.yaml")


def test_every_query_returns_the_expected_values(promtool: Promtool, tmp_path: Path) -> None:
    cases = []
    for name, expression in queries().items():
        if name in EACH:
            samples = [{"labels": f"{{{at}}}", "value": value} for at, value in zip((A, B), EACH[name], strict=True)]
        else:
            samples = [{"labels": "{}", "value": ALL[name]}]
        # Rounded, because a rate is exact except for its last bits.
        cases.append({"expr": f"round({expression}, 0.001)", "eval_time": AT, "exp_samples": samples})

    assert queries().keys() == EACH.keys() | ALL.keys()
    assert "SUCCESS" in evaluated(promtool, cases, series(), tmp_path)


def test_deployment_annotation_lasts_two_minutes(promtool: Promtool, tmp_path: Path) -> None:
    deploys = filled(FLEET["annotations"]["list"][0]["expr"])
    new = [{"labels": f'{{{A},model_version="8"}}', "value": 1}]
    cases = [
        {"expr": deploys, "eval_time": f"{minute}m", "exp_samples": samples}
        for minute, samples in ((UPDATE - 1, []), (UPDATE, new), (UPDATE + 1, new), (UPDATE + 2, []), (50, []))
    ]

    assert "SUCCESS" in evaluated(promtool, cases, series(), tmp_path)
