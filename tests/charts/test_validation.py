"""Values that cannot work end at `helm template`, with a sentence that names them and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, MLFLOW, MODEL_SERVICE, HelmError, Values, render

DIGEST = "sha256:abc"
TRIGGERS = {"triggers": [{"type": "cpu", "metadata": {"value": "60"}}]}
TRACKED = {"mlflow": {"trackingUri": "http://mlflow:5000"}}
LOGIN = {"enabled": True, "existingSecret": "login"}
POSTGRES = {"backendStoreUriFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}
S3 = {"artifactsDestination": "s3://models"}


def model(uri: str) -> Values:
    """Return values with a model's URI."""
    return {"model": {"uri": uri}}


def budget(replicas: int = 2, **rule: Any) -> Values:
    """Return values with a disruption budget."""
    return {**MINIMAL, "replicaCount": replicas, "podDisruptionBudget": rule}


@pytest.mark.parametrize(
    ("chart", "values", "sentence"),
    [
        (MODEL_SERVICE, {}, "model.uri is empty: set it to the model to serve"),
        (MODEL_SERVICE, model("models:/churn/3"), "mlflow.trackingUri is empty: set mlflow.trackingUri to the MLflow"),
        (
            MODEL_SERVICE,
            {**model("models:/churn"), **TRACKED},
            "model.uri=models:/churn is not of the form",
        ),
        (MODEL_SERVICE, {**model("models:/churn/Production"), **TRACKED}, "is not of the form models:/<name>@<alias>"),
        (MODEL_SERVICE, {**model("models:/churn/0"), **TRACKED}, "is not of the form models:/<name>@<alias>"),
        (MODEL_SERVICE, {**model("models:/churn@"), **TRACKED}, "is not of the form models:/<name>@<alias>"),
        (MODEL_SERVICE, model("s3://bucket/model"), "model.uri=s3://bucket/model is of a kind that this chart cannot"),
        (MODEL_SERVICE, model("file://models"), "model.uri=file://models is of a kind that this chart cannot serve"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "mlflow": {"trackingUri": "http://me:secret@mlflow"}},
            "mlflow.trackingUri holds credentials",
        ),
        (MODEL_SERVICE, {**model("models:/churn@my alias"), **TRACKED}, "is not of the form models:/<name>@<alias>"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "mlflow": {"trackingUri": "mlflow.example:5000"}},
            'mlflow.trackingUri="mlflow.example:5000" is no address: write it with its scheme',
        ),
        (MODEL_SERVICE, {**MINIMAL, "mlflow": {"trackingUri": "http://mlflow:5000/ "}}, "without blanks"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "api": {"queueTimeoutSeconds": 31}},
            "api.queueTimeoutSeconds=31 is longer than api.requestTimeoutSeconds=30",
        ),
        (MODEL_SERVICE, {**MINIMAL, "nameOverride": "a" * 51}, "has 51 characters: shorten it to 50"),
        (MODEL_SERVICE, {**MINIMAL, "fullnameOverride": "a" * 60}, "has 60 characters: shorten it to 55"),
        (MODEL_SERVICE, {**MINIMAL, "fullnameOverride": "7days"}, "named 7days, but a Service's name starts with a"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "image": {"digest": DIGEST}},
            "image.digest=sha256:abc is no digest: write",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "preStopSleepSeconds": 35},
            "terminationGracePeriodSeconds=40 leaves requests in flight no time after preStopSleepSeconds=35",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True, "minReplicas": 11}},
            "autoscaling.minReplicas=11 is more than autoscaling.maxReplicas=10",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "autoscaling.targetCPUUtilizationPercentage=70 is a share of resources.requests.cpu, which is empty",
        ),
        (
            MODEL_SERVICE,
            {
                **MINIMAL,
                "autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80},
                "resources": {"requests": {"memory": None}},
            },
            "autoscaling.targetMemoryUtilizationPercentage=80 is a share of resources.requests.memory, which is empty",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
            "autoscaling.enabled=true has nothing to scale by: set",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True}, "keda": {"enabled": True, **TRIGGERS}},
            "autoscaling.enabled=true and keda.enabled=true would both set the number of pods: set one of them to",
        ),
        (MODEL_SERVICE, {**MINIMAL, "keda": {"enabled": True}}, "keda.enabled=true has nothing to scale by: list"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "keda": {"enabled": True, "minReplicas": 11, **TRIGGERS}},
            "keda.minReplicas=11 is more than keda.maxReplicas=10: raise keda.maxReplicas",
        ),
        (
            MODEL_SERVICE,
            {**budget(minAvailable=1, maxUnavailable=None), "keda": {"enabled": True, "minReplicas": 1, **TRIGGERS}},
            "podDisruptionBudget.minAvailable=1 of 1 pods blocks each node drain",
        ),
        (MODEL_SERVICE, {**MINIMAL, "ingress": {"enabled": True}}, "ingress.enabled=true leads nowhere while"),
        (MODEL_SERVICE, {**MINIMAL, "httpRoute": {"enabled": True}}, "joins no gateway while httpRoute.parentRefs is"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "httpRoute": {"canary": {"service": "churn-next"}}},
            "httpRoute.canary.service=churn-next gets no request while httpRoute.enabled=false: set httpRoute.enabled",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "httpRoute": {"canary": {"weight": 10}}},
            "httpRoute.canary.weight=10 has no Service to go to: set httpRoute.canary.service",
        ),
        (
            MODEL_SERVICE,
            {
                **MINIMAL,
                "networkPolicy": {"enabled": True},
                "ingress": {"enabled": True, "hosts": [{"host": "a.example"}]},
            },
            "networkPolicy.enabled=true keeps the ingress controller or gateway out while",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "strategy": {"rollingUpdate": {"maxSurge": "0%"}}},
            "maxSurge and strategy.rollingUpdate.maxUnavailable are both 0, so no pod could be replaced: set one",
        ),
        (MODEL_SERVICE, budget(maxUnavailable=0), "podDisruptionBudget.maxUnavailable=0 blocks each node drain"),
        (MODEL_SERVICE, budget(maxUnavailable="0%"), "podDisruptionBudget.maxUnavailable=0% blocks each node drain"),
        (MODEL_SERVICE, budget(minAvailable=2, maxUnavailable=None), "minAvailable=2 of 2 pods blocks each node drain"),
        (MODEL_SERVICE, budget(minAvailable="51%", maxUnavailable=None), "minAvailable=51% of 2 pods blocks each"),
        (MODEL_SERVICE, budget(minAvailable=1), "minAvailable=1 and podDisruptionBudget.maxUnavailable=1: set exactly"),
        (
            MODEL_SERVICE,
            {**budget(minAvailable=1, maxUnavailable=None), "autoscaling": {"enabled": True, "minReplicas": 1}},
            "podDisruptionBudget.minAvailable=1 of 1 pods blocks each node drain",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "serviceMonitor": {"scrapeTimeout": "1m"}},
            "serviceMonitor.scrapeTimeout=1m is longer than serviceMonitor.interval=15s",
        ),
        (
            MLFLOW,
            {"replicaCount": 2},
            "replicaCount=2 pods cannot share a SQLite database: set replicaCount=1, or",
        ),
        (MLFLOW, {"replicaCount": 2, "mlflow": {**POSTGRES, **S3}}, "cannot share a volume with storage.accessMode="),
        (MLFLOW, {"storage": {"enabled": False}}, "storage.enabled=false would keep the SQLite database in the pod"),
        (MLFLOW, {"storage": {"enabled": False}, "mlflow": POSTGRES}, "storage.enabled=false leaves no place for"),
        (
            MLFLOW,
            {"mlflow": {**POSTGRES, "backendStoreUri": "postgresql+psycopg://db/mlflow"}},
            "mlflow.backendStoreUri and mlflow.backendStoreUriFrom are both set",
        ),
        (
            MLFLOW,
            {"mlflow": {"backendStoreUri": "postgresql+psycopg://me:secret@db/mlflow"}},
            "mlflow.backendStoreUri holds a password",
        ),
        (MLFLOW, {"mlflow": {"backendStoreUri": "postgres://db/mlflow"}}, "write postgresql+psycopg://"),
        (MLFLOW, {"mlflow": {"backendStoreUri": "sqlite:///mlflow.db"}}, "is not on the volume, and would be lost"),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "/data/a"}},
            "mlflow.artifactsDestination=/data/a is not on the volume",
        ),
        (MLFLOW, {"mlflow": {"artifactsDestination": "s3://"}}, "mlflow.artifactsDestination=s3:// names no bucket"),
        (MLFLOW, {"s3": {"existingSecret": "keys"}}, "s3.existingSecret=keys is for a bucket, but"),
        (MLFLOW, {"server": {"workers": 9}}, "resources.limits.memory=1536Mi is too little for server.workers=9"),
        (
            MLFLOW,
            {"auth": {"enabled": True}},
            "auth.enabled=true needs an administrator, and no password has a default",
        ),
        (
            MLFLOW,
            {"auth": LOGIN, "serviceMonitor": {"enabled": True, "namespace": "elsewhere"}},
            "serviceMonitor.namespace=elsewhere has no Secret login for the scrape",
        ),
        (MLFLOW, {"ingress": {"enabled": True}}, "ingress.enabled=true leads nowhere"),
        (MLFLOW, {"ingress": {"enabled": True, "hosts": [{}]}}, "ingress.hosts has an entry without host"),
        (MLFLOW, {"httpRoute": {"enabled": True}}, "httpRoute.enabled=true joins no gateway"),
        (MLFLOW, {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "needs httpRoute.hostnames"),
        (
            MLFLOW,
            {"networkPolicy": {"enabled": True}, "ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}},
            "networkPolicy.enabled=true keeps the ingress controller or gateway out",
        ),
        (
            MLFLOW,
            {"networkPolicy": {"enabled": True}, "mlflow": POSTGRES},
            "networkPolicy.enabled=true keeps the server from its database or bucket",
        ),
        (
            MLFLOW,
            {"garbageCollection": {"enabled": True}, "storage": {"accessMode": "ReadWriteOncePod"}},
            "garbageCollection.enabled=true opens the SQLite database from a second pod",
        ),
        (MLFLOW, {"preStopSleepSeconds": 50}, "terminationGracePeriodSeconds=60 leaves the server too little time"),
        (MLFLOW, {"env": [{"name": "MLFLOW_WORKERS", "value": "9"}]}, "env sets MLFLOW_WORKERS, which the chart sets"),
        (MLFLOW, {"deploymentStrategy": {"type": "RollingUpdate"}}, "would open the SQLite database from two pods"),
        (MLFLOW, {"fullnameOverride": "a" * 60}, "has 60 characters: shorten it to 55"),
        (MLFLOW, {"fullnameOverride": "7days"}, "named 7days, but a Service's name starts with a letter"),
        (MLFLOW, {"image": {"digest": DIGEST}}, "image.digest=sha256:abc is no digest"),
        (
            MLFLOW,
            {"serviceMonitor": {"enabled": True}, "metrics": {"enabled": False}},
            "serviceMonitor.enabled=true would scrape metrics that metrics.enabled=false turns off",
        ),
        (
            MLFLOW,
            {"serviceMonitor": {"interval": "9999ms"}},
            "scrapeTimeout=10s is longer than serviceMonitor.interval",
        ),
    ],
)
def test_impossible_values_fail_with_a_sentence(chart: Path, values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(chart, values)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        budget(minAvailable="50%", maxUnavailable=None),
        budget(replicas=0, minAvailable=1, maxUnavailable=None),
        budget(replicas=1),
        {**MINIMAL, "serviceMonitor": {"interval": "1m", "scrapeTimeout": "60s"}},
        {**TRACKED, **model("models:/churn@champion")},
        {**TRACKED, **model("models:/churn/12")},
        {**MINIMAL, "strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 0}}},
        {**MINIMAL, "resources": {"requests": {"cpu": None}}},
        {**MINIMAL, "resources": {"requests": {"cpu": 1}, "limits": None}},
        {**MINIMAL, "podSecurityContext": None, "securityContext": None, "topologySpreadConstraints": None},
        {**MINIMAL, "global": {"anything": True}},
    ],
)
def test_possible_values_render(values: Values) -> None:
    assert render(MODEL_SERVICE, values)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({**MINIMAL, "replicas": 3}, "replicas"),
        ({"model": {"url": "file:///models/example"}}, "url"),
        ({**MINIMAL, "replicaCount": "two"}, "replicaCount"),
        ({**MINIMAL, "service": {"type": "clusterip"}}, "type"),
        ({**MINIMAL, "serviceMonitor": {"interval": "15"}}, "interval"),
        ({**MINIMAL, "fullnameOverride": "Upper_Case"}, "fullnameOverride"),
        ({**MINIMAL, "ingress": {"hosts": [{"name": "a.example"}]}}, "name"),
        ({**MINIMAL, "httpRoute": {"canary": {"weight": 101}}}, "weight"),
        ({**MINIMAL, "networkPolicy": {"ingressFrom": [{"namespace": "default"}]}}, "namespace"),
        ({**MINIMAL, "keda": {"minReplicas": 0}}, "minReplicas"),
        (budget(minAvailable="half"), "minAvailable"),
        ({**MINIMAL, "strategy": {"rollingUpdate": {"maxSurge": ""}}}, "maxSurge"),
        ({**MINIMAL, "image": None}, "image"),
        ({**MINIMAL, "image": {"tag": None}}, "tag"),
        ({**MINIMAL, "extraEnv": ["NAME=value"]}, "extraEnv"),
        ({**MINIMAL, "image": {"tag": "v1:2"}}, "tag"),
        ({"model": {**MINIMAL["model"], "sha256": "ABC"}}, "sha256"),
        ({**MINIMAL, "commonAnnotations": {"owner": 1}}, "owner"),
    ],
)
def test_schema_refuses_what_the_chart_does_not_know(values: Values, key: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(MODEL_SERVICE, values)

    assert key in str(refused.value)
    assert "values don't meet the specifications of the schema" in str(refused.value)


def test_extra_env_may_not_repeat_what_the_chart_sets() -> None:
    deployment = next(item for item in render(MODEL_SERVICE, MINIMAL) if item["kind"] == "Deployment")
    names = [variable["name"] for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]

    assert len(names) > 10
    for name in names:
        with pytest.raises(HelmError, match=f"extraEnv sets {name}, which the chart sets itself"):
            render(MODEL_SERVICE, {**MINIMAL, "extraEnv": [{"name": name, "value": "x"}]})
