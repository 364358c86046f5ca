"""Objects whose definition the cluster lacks: an error that names the key, and never a silent omission."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import MINIMAL, kinds
from tests.charts.strategies import merged
from tests.charts.test_schemas import KEDA, TRAIN_JOB
from tools.charts import MLFLOW, MODEL_SERVICE, HelmError, Values, template
from tools.cluster.programs import clients

OPERATOR = "install the Prometheus Operator (charts/observability contains it) first"
MONITOR = "monitoring.coreos.com/v1/ServiceMonitor"
ROUTE: Values = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.example"]}}
SCRAPED: Values = {"monitoring": {"serviceMonitor": {"enabled": True}}}
ALERTS: Values = {"monitoring": {"prometheusRule": {"enabled": True}}}
PODS: Values = {"monitoring": {"serviceMonitor": {"enabled": True, "usePodMonitor": True}}}
GATEWAY = "gateway.networking.k8s.io/v1/HTTPRoute"
CASES: list[tuple[Path, Values, str, str, str]] = [
    (MODEL_SERVICE, SCRAPED, MONITOR, "monitoring.serviceMonitor.enabled=true", OPERATOR),
    (MODEL_SERVICE, PODS, "monitoring.coreos.com/v1/PodMonitor", "monitoring.serviceMonitor.enabled=true", OPERATOR),
    (
        MODEL_SERVICE,
        ALERTS,
        "monitoring.coreos.com/v1/PrometheusRule",
        "monitoring.prometheusRule.enabled=true",
        OPERATOR,
    ),
    (MODEL_SERVICE, ROUTE, GATEWAY, "httpRoute.enabled=true", "install the Gateway API first"),
    (MODEL_SERVICE, KEDA, "keda.sh/v1alpha1/ScaledObject", "autoscaling.keda.enabled=true", "install KEDA first"),
    (
        MODEL_SERVICE,
        TRAIN_JOB,
        "trainer.kubeflow.org/v1alpha1/TrainJob",
        "training.trainJob.enabled=true",
        "install Kubeflow Trainer first",
    ),
    (MLFLOW, SCRAPED, MONITOR, "monitoring.serviceMonitor.enabled=true", OPERATOR),
    (MLFLOW, ALERTS, "monitoring.coreos.com/v1/PrometheusRule", "monitoring.prometheusRule.enabled=true", OPERATOR),
    (MLFLOW, ROUTE, GATEWAY, "httpRoute.enabled=true", "install the Gateway API first"),
]


def objects(chart: Path, values: Values, *known: str) -> list[dict[str, Any]]:
    """Return the objects for a cluster that knows Deployments and these kinds, or for none if there are none."""
    options = [option for kind in known for option in ("--api-versions", kind)]
    given = merged(MINIMAL, values) if chart == MODEL_SERVICE else values
    text = template(("demo", str(chart), "--namespace", "models", *options), yaml.safe_dump(given))
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize(
    ("chart", "values", "kind", "key", "remedy"), CASES, ids=lambda case: getattr(case, "name", "")
)
def test_missing_definition_fails_with_key_and_remedy(
    monkeypatch: pytest.MonkeyPatch, helm: str, chart: Path, values: Values, kind: str, key: str, remedy: str
) -> None:
    monkeypatch.setenv("HELM", str(clients() / helm))
    template.cache_clear()
    name = kind.rpartition("/")[2]

    with pytest.raises(HelmError) as refused:
        objects(chart, values, "apps/v1/Deployment")

    off = f"{key.removesuffix('true')}false"
    sentence = f"{key} needs the kind {name}, which this cluster does not know: {remedy}, or set {off}."
    assert sentence in str(refused.value)
    assert name in kinds(objects(chart, values, "apps/v1/Deployment", kind)), "the definition has come"
    assert name in kinds(objects(chart, values)), "helm template without a cluster"


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW], ids=lambda chart: chart.name)
def test_default_needs_no_definition(chart: Path) -> None:
    assert objects(chart, {}, "apps/v1/Deployment") == objects(chart, {})
