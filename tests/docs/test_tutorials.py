"""The tutorials' values: the chart accepts them and renders the objects that the text names."""

import re
from typing import Any

import yaml

from tools.charts import MODEL_SERVICE, render
from tools.cluster.cache import ROOT

TUTORIALS = ROOT / "docs/tutorials"
MODEL = {"model": {"uri": "models:/churn@champion"}, "mlflow": {"trackingUri": "http://mlflow.example:5000"}}


def rendered(page: str) -> tuple[str, dict[tuple[str, str], Any]]:
    """Return a tutorial, and the objects that the chart makes of its values by kind and name."""
    text = (TUTORIALS / page).read_text()
    (values,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    objects = render(MODEL_SERVICE, yaml.safe_load(values) | MODEL, release="churn")
    return text, {(item["kind"], item["metadata"]["name"]): item for item in objects}


def test_retrain_on_a_schedule_names_existing_objects() -> None:
    text, objects = rendered("retrain-on-a-schedule.md")

    job = objects["CronJob", re.findall(r"--from=cronjob/(\S+)", text)[0]]
    assert job["spec"]["schedule"] == "0 3 * * *"
    assert job["spec"]["timeZone"] == "Europe/Lisbon"
    containers = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == re.findall(
        r"kubectl logs job/now --container (\S+)", text
    )
    assert containers[0]["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert ("Deployment", re.findall(r"rollout restart deployment/(\S+)", text)[0]) in objects


def test_watch_drift_turns_on_what_it_names() -> None:
    text, objects = rendered("watch-drift.md")

    (rules,) = [item for (kind, _), item in objects.items() if kind == "PrometheusRule"]
    known = {rule.get("alert") or rule["record"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    named = set(re.findall(r"`(Model\w+)`", text)) | set(re.findall(r"model:\w+:\w+", text))
    assert named
    assert named <= known
    assert rules["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert {"ServiceMonitor", "ConfigMap"} <= {kind for kind, _ in objects}
