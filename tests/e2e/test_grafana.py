"""Tests of Grafana in the real kube-prometheus-stack: dashboards in their folders, and data in its data source."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tools.charts import MLFLOW, MODEL_SERVICE
from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.main_job import MONITORING, NAMESPACE, OBSERVABILITY

OURS = sorted(path for chart in (MODEL_SERVICE, MLFLOW) for path in (chart / "files" / "dashboards").glob("*.json"))


class Grafana:
    """Client for Grafana's API as the administrator."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def call(self, path: str, body: Any = None) -> Any:
        """Return the parsed response to GET, or to POST if a body is given."""
        headers = {"Authorization": self._login, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310 - a local URL
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return json.load(answer)


@pytest.fixture
def grafana(access: Access) -> Iterator[Grafana]:
    """Grafana, with the Service and Secret from the umbrella chart's notes."""
    name = f"{OBSERVABILITY}-grafana"
    secret = access.get("secret", name, MONITORING)["data"]
    user, password = (base64.b64decode(secret[key]).decode() for key in ("admin-user", "admin-password"))
    with access.forward(f"service/{name}", 80, MONITORING) as url:
        yield Grafana(url, user, password)


def test_each_dashboard_is_in_its_folder(access: Access, grafana: Grafana) -> None:
    wanted = {}
    for namespace in (MONITORING, NAMESPACE):
        for item in access.get_all("configmap", "grafana_dashboard=1", namespace):
            folder = item["metadata"].get("annotations", {}).get("grafana_folder")
            for text in item["data"].values() if folder else ():
                wanted[json.loads(text)["uid"]] = folder
    found: dict[str, str] = {}

    def shown() -> bool:
        dashboards = grafana.call("/api/search?type=dash-db&limit=1000")
        found.update((item["uid"], item.get("folderTitle", "")) for item in dashboards)
        return wanted.items() <= found.items()

    assert {json.loads(path.read_text())["uid"] for path in OURS} <= wanted.keys()
    wait_for("our dashboards in Grafana", shown, timeout_seconds=300, remedy="See the log of grafana-sc-dashboard.")


def test_datasource_returns_model_info(grafana: Grafana) -> None:
    query = {"refId": "A", "expr": "model_info", "instant": True, "datasource": {"uid": "prometheus"}}

    def answered() -> bool:
        answer = grafana.call("/api/ds/query", {"queries": [query], "from": "now-5m", "to": "now"})
        return any(frame["data"]["values"] for frame in answer["results"]["A"]["frames"])

    wait_for("model_info by Grafana's datasource", answered, timeout_seconds=300, remedy="Is Prometheus its source?")


def test_datasource_follows_the_scrape_interval(grafana: Grafana) -> None:
    assert grafana.call("/api/datasources/uid/prometheus")["jsonData"]["timeInterval"] == "30s"
