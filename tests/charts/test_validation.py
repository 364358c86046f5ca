"""Tests that invalid values fail at `helm template` with an error that names the key and the fix."""

from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, environment
from tools.charts import MLFLOW, MODEL_SERVICE, HelmError, Values, render

DIGEST = "sha256:abc"
TRIGGERS = {"triggers": [{"type": "cpu", "metadata": {"value": "60"}}]}
TRACKED = {"mlflow": {"trackingUri": "http://mlflow:5000"}}
LOGIN = {"enabled": True, "existingSecret": "login"}
POSTGRES = {"backendStoreUriFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}
S3 = {"artifactsDestination": "s3://models"}


def model(uri: str) -> Values:
    """Return values with a model URI."""
    return {"model": {"uri": uri}}


def following(**changes: Any) -> Values:
    """Return values of a release that follows an alias, with changes of `model`."""
    return {"model": {"uri": "models:/churn@champion", "follow": {"enabled": True}, **changes}, **TRACKED}


def challenging(uri: str, *, labels: bool = False, **changes: Any) -> Values:
    """Return values of a release with a challenger."""
    return {"model": {"uri": "models:/churn/7"}, **TRACKED, "challenger": {"uri": uri, "labels": labels}, **changes}


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
            {**MINIMAL, "api": {"quotas": {"owners": {"web": {"rowsPerSecond": 5}, "batch": {}}}}},
            "api.quotas.owners names batch, web, but api.auth.existingSecret and api.auth.jwt.issuer are empty, so no",
        ),
        *(
            (MODEL_SERVICE, {**MINIMAL, "api": {"auth": {"jwt": jwt, "existingSecret": secret}}}, text)
            for jwt, secret, text in [
                ({"issuer": "https://a.example.com"}, "keys", "api.auth.jwt.audience is empty: set it to the audience"),
                ({"audience": "churn"}, "keys", "api.auth.jwt.audience is set, but api.auth.jwt.issuer is empty, so"),
                ({"requiredScopes": ["a"]}, "", "api.auth.jwt.requiredScopes is set, but api.auth.jwt.issuer is empty"),
                (
                    {"issuer": "https://a.example.com", "audience": "churn"},
                    "",
                    "api.auth.jwt.issuer without api.auth.existingSecret leaves helm test without a key: set",
                ),
                (
                    {
                        **{"issuer": "https://a.example.com", "audience": "churn"},
                        **{"jwksUri": "https://b.example.com", "existingConfigMap": "keys"},
                    },
                    "keys",
                    "api.auth.jwt.jwksUri and api.auth.jwt.existingConfigMap both say where the keys of the issuer are",
                ),
            ]
        ),
        *(
            (MODEL_SERVICE, {**MINIMAL, "api": {"trustedProxies": ["10.0.0.0/8", network]}}, text)
            for network in ("proxy", "10.0.0.0/33", "10.0.0/8", "256.0.0.1", "010.0.0.1", "fd00::/129", "fd00", "")
            for text in [f"api.trustedProxies has {network}, which is not a network: use CIDR notation, such as 10.0"]
        ),
        (
            MODEL_SERVICE,
            {**model("models:/churn"), **TRACKED},
            "model.uri=models:/churn is not valid: use models:/<name>@<alias>",
        ),
        (
            MODEL_SERVICE,
            following(uri="models:/churn/3"),
            "model.follow.enabled=true requires an alias, but model.uri=models:/churn/3 always names the same model",
        ),
        (MODEL_SERVICE, following(flavor="pyfunc"), "model.follow.enabled=true requires model.flavor=xgboost"),
        (MODEL_SERVICE, following(sha256="a" * 64), "model.follow.enabled=true contradicts model.sha256"),
        (
            MODEL_SERVICE,
            following(peers={"enabled": False}),
            "model.follow.enabled=true requires model.peers.enabled=true",
        ),
        (
            MODEL_SERVICE,
            challenging("runs:/abc/model"),
            "challenger.uri=runs:/abc/model is not supported: use models:/<name>@<alias>, ",
        ),
        (
            MODEL_SERVICE,
            challenging("models:/churn@next", mlflow={"trackingUri": ""}, model={"uri": "file:///models/churn"}),
            "challenger.uri=models:/churn@next requires MLflow, but mlflow.trackingUri is empty",
        ),
        (
            MODEL_SERVICE,
            challenging("models:/other/3"),
            "names a different registered model than model.uri=models:/churn/7, so version numbers would not be unique",
        ),
        (
            MODEL_SERVICE,
            challenging("models:/churn/8", model={"uri": "models:/churn/7", "flavor": "pyfunc"}),
            "challenger.uri=models:/churn/8 requires model.flavor=xgboost",
        ),
        (
            MODEL_SERVICE,
            challenging("models:/churn/8", labels=True),
            "challenger.labels=true requires labels, but api.feedback.existingSecret is empty",
        ),
        (MODEL_SERVICE, model("ftp://host/x"), "model.uri=ftp://host/x is not supported: use models:/<name>@<alias>, "),
        (MODEL_SERVICE, model("churn"), "model.uri=churn is not supported: use models:/<name>@<alias>, "),
        (
            MODEL_SERVICE,
            {**model("models:/m-12"), **TRACKED},
            "models:/<name>/<version> (a number from 1) or models:/m-<id>",
        ),
        (MODEL_SERVICE, {**model("runs:/abc"), **TRACKED}, "model.uri=runs:/abc is not valid: use runs:/<run>/<path>."),
        (
            MODEL_SERVICE,
            model("runs:/abc/model"),
            "model.uri=runs:/abc/model requires MLflow, but mlflow.trackingUri is empty",
        ),
        (
            MODEL_SERVICE,
            {**model("mlflow-artifacts://host/x"), **TRACKED},
            "is not valid: use mlflow-artifacts:/<path>.",
        ),
        (MODEL_SERVICE, model("s3:///x"), "model.uri=s3:///x is not valid: use s3://<bucket>/<path>."),
        (
            MODEL_SERVICE,
            model("s3://lake/a/../b"),
            "model.uri=s3://lake/a/../b is not valid: use s3://<bucket>/<path>.",
        ),
        (MODEL_SERVICE, model("gs://lake/./b"), "model.uri=gs://lake/./b is not valid: use gs://<bucket>/<path>."),
        (MODEL_SERVICE, model("az://"), "is not valid: use az://<container>/<path>, with the account in"),
        (MODEL_SERVICE, model("https://user:pw@host/x"), "without credentials and without a query."),
        (MODEL_SERVICE, model("https://host/x?sig=1"), "without credentials and without a query."),
        (MODEL_SERVICE, model("https://host/x"), "could replace the model: set model.sha256."),
        (
            MODEL_SERVICE,
            {"model": {"uri": "https://host/x", "sha256": "a" * 64, "flavor": "pyfunc"}},
            "because a web server does not list the files of a model: use object storage or MLflow.",
        ),
        (MODEL_SERVICE, model("pvc:///churn"), "model.uri=pvc:///churn is not valid: use pvc://<claim>/<path>."),
        (MODEL_SERVICE, model("pvc://models/../x"), "is not valid: use pvc://<claim>/<path>."),
        (
            MODEL_SERVICE,
            model("oci://#x"),
            "is not valid: use oci://<image>, and #<path> if the model is not at its root.",
        ),
        (
            MODEL_SERVICE,
            {"model": {"uri": "pvc://models", "cache": {"existingClaim": "cache"}}},
            "model.cache.existingClaim=cache has no effect with model.uri=pvc://models, which is not downloaded",
        ),
        (
            MODEL_SERVICE,
            {**model("oci://churn:7"), "batch": {"enabled": True, "data": "s3://a/b", "output": "s3://a/c"}},
            "batch.enabled=true cannot read model.uri=oci://churn:7, a volume of the service: set batch.model",
        ),
        (MODEL_SERVICE, {**model("models:/churn/Production"), **TRACKED}, "is not valid: use models:/<name>@<alias>"),
        (MODEL_SERVICE, {**model("models:/churn/0"), **TRACKED}, "is not valid: use models:/<name>@<alias>"),
        (MODEL_SERVICE, {**model("models:/churn@"), **TRACKED}, "is not valid: use models:/<name>@<alias>"),
        (MODEL_SERVICE, model("file://models"), "model.uri=file://models is not valid: use file:///<folder>."),
        (
            MODEL_SERVICE,
            {"model": {"uri": "file:///models/a", "flavor": "pyfunc", "unknownCategory": "missing"}},
            "model.unknownCategory=missing requires model.flavor=xgboost",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "mlflow": {"trackingUri": "http://me:secret@mlflow"}},
            "mlflow.trackingUri contains credentials",
        ),
        (MODEL_SERVICE, {**model("models:/churn@my alias"), **TRACKED}, "is not valid: use models:/<name>@<alias>"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "mlflow": {"trackingUri": "mlflow.example:5000"}},
            'mlflow.trackingUri="mlflow.example:5000" is not a URL: include the scheme',
        ),
        (MODEL_SERVICE, {**MINIMAL, "mlflow": {"trackingUri": "http://mlflow:5000/ "}}, "no spaces"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "api": {"queueTimeoutSeconds": 31}},
            "api.queueTimeoutSeconds=31 is longer than api.requestTimeoutSeconds=30",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "api": {"corsOrigins": ["https://shop.example/cart"]}},
            "api.corsOrigins has https://shop.example/cart, which is not an origin: use a scheme and a host",
        ),
        (MODEL_SERVICE, {**MINIMAL, "nameOverride": "a" * 51}, "has 51 characters: shorten it to 50"),
        (MODEL_SERVICE, {**MINIMAL, "fullnameOverride": "a" * 60}, "has 60 characters: shorten it to 55"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "fullnameOverride": "7days"},
            "named 7days, but the name of a Service must start with a letter",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "image": {"digest": DIGEST}},
            "image.digest=sha256:abc is not a digest: use",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "pod": {"preStopSleepSeconds": 35}},
            "terminationGracePeriodSeconds=40 leaves no time for requests in flight after pod.preStopSleepSeconds=35",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True, "minReplicas": 11}},
            "autoscaling.minReplicas=11 is greater than autoscaling.maxReplicas=10",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "autoscaling.targetCPUUtilizationPercentage=70 is a percentage of resources.requests.cpu, which is empty",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
            "autoscaling.enabled=true requires a target: set",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"keda": {"enabled": True, **TRIGGERS}}},
            "autoscaling.keda.enabled=true has no effect while autoscaling.enabled=false: set",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "autoscaling": {"enabled": True, "keda": {"enabled": True}}},
            "autoscaling.keda.enabled=true requires a trigger: add",
        ),
        (
            MODEL_SERVICE,
            {
                **budget(minAvailable=1, maxUnavailable=None),
                "autoscaling": {"enabled": True, "minReplicas": 1, "keda": {"enabled": True, **TRIGGERS}},
            },
            "podDisruptionBudget.minAvailable=1 of 1 pods blocks each node drain",
        ),
        (MODEL_SERVICE, {**MINIMAL, "ingress": {"enabled": True}}, "ingress.enabled=true has no effect while"),
        (MODEL_SERVICE, {**MINIMAL, "httpRoute": {"enabled": True}}, "httpRoute.enabled=true has no effect while"),
        (
            MODEL_SERVICE,
            {**MINIMAL, "httpRoute": {"canary": {"service": "churn-next"}}},
            "httpRoute.canary.service=churn-next has no effect while httpRoute.enabled=false: set httpRoute.enabled",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "httpRoute": {"canary": {"weight": 10}}},
            "httpRoute.canary.weight=10 has no Service: set httpRoute.canary.service",
        ),
        (
            MODEL_SERVICE,
            {
                **MINIMAL,
                "networkPolicy": {"enabled": True},
                "ingress": {"enabled": True, "hosts": [{"host": "a.example"}]},
            },
            "networkPolicy.enabled=true blocks the ingress controller or gateway while",
        ),
        (
            MODEL_SERVICE,
            {**MINIMAL, "deployment": {"strategy": {"rollingUpdate": {"maxSurge": "0%"}}}},
            "maxSurge and deployment.strategy.rollingUpdate.maxUnavailable are both 0, so no pod could be",
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
            {**MINIMAL, "monitoring": {"serviceMonitor": {"scrapeTimeout": "1m"}}},
            "serviceMonitor.scrapeTimeout=1m is longer than monitoring.serviceMonitor.interval=15s",
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
            "mlflow.backendStoreUri contains a password",
        ),
        (MLFLOW, {"mlflow": {"backendStoreUri": "postgres://db/mlflow"}}, "use postgresql+psycopg://"),
        (MLFLOW, {"mlflow": {"backendStoreUri": "mysql://db/mlflow"}}, "use mysql+pymysql://"),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "hdfs://data/mlflow"}},
            "starts with hdfs://, for which the image has",
        ),
        (MLFLOW, {"mlflow": {"artifactsDestination": "gs://"}}, "does not name a bucket: use gs://<bucket>/<path>"),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "wasbs://models/a"}},
            "use wasbs://<container>@<account>.blob.core",
        ),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "abfss://models/a"}},
            "use abfss://<container>@<account>.dfs.core",
        ),
        (MLFLOW, {"mlflow": {"backendStoreUri": "sqlite:///mlflow.db"}}, "is not on the volume and would be lost"),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "/data/a"}},
            "mlflow.artifactsDestination=/data/a is not on the volume",
        ),
        (
            MLFLOW,
            {"mlflow": {"artifactsDestination": "s3://"}},
            "mlflow.artifactsDestination=s3:// does not name a bucket",
        ),
        (MLFLOW, {"s3": {"existingSecret": "keys"}}, "s3.existingSecret=keys requires a bucket, but"),
        (MLFLOW, {"server": {"workers": 9}}, "resources.limits.memory=1536Mi is too little for server.workers=9"),
        (
            MLFLOW,
            {"auth": {"enabled": True}},
            "auth.enabled=true requires an administrator, and no password has a default",
        ),
        (
            MLFLOW,
            {"auth": LOGIN, "monitoring": {"serviceMonitor": {"enabled": True}, "namespace": "elsewhere"}},
            "monitoring.namespace=elsewhere does not contain the Secret login for the scrape",
        ),
        (MLFLOW, {"ingress": {"enabled": True}}, "ingress.enabled=true has no effect"),
        (MLFLOW, {"ingress": {"enabled": True, "hosts": [{}]}}, "ingress.hosts has an entry without host"),
        (MLFLOW, {"httpRoute": {"enabled": True}}, "httpRoute.enabled=true has no effect"),
        (MLFLOW, {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "requires httpRoute.hostnames"),
        (
            MLFLOW,
            {"networkPolicy": {"enabled": True}, "ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}},
            "networkPolicy.enabled=true blocks the ingress controller or gateway",
        ),
        (
            MLFLOW,
            {"networkPolicy": {"enabled": True}, "mlflow": POSTGRES},
            "networkPolicy.enabled=true blocks the database or bucket",
        ),
        (
            MLFLOW,
            {"garbageCollection": {"enabled": True}, "storage": {"accessMode": "ReadWriteOncePod"}},
            "garbageCollection.enabled=true opens the SQLite database from a second pod",
        ),
        (
            MLFLOW,
            {"pod": {"preStopSleepSeconds": 50}},
            "pod.terminationGracePeriodSeconds=60 leaves the server too little time after pod.preStopSleepSeconds=50",
        ),
        (
            MLFLOW,
            {"extraEnv": [{"name": "MLFLOW_WORKERS", "value": "9"}]},
            "extraEnv sets MLFLOW_WORKERS, which the chart sets",
        ),
        (
            MLFLOW,
            {"deployment": {"strategy": {"type": "RollingUpdate"}}},
            "deployment.strategy.type=RollingUpdate would open the SQLite database from two pods",
        ),
        (MLFLOW, {"fullnameOverride": "a" * 60}, "has 60 characters: shorten it to 55"),
        (MLFLOW, {"fullnameOverride": "7days"}, "named 7days, but the name of a Service must start with a letter"),
        (MLFLOW, {"image": {"digest": DIGEST}}, "image.digest=sha256:abc is not a digest"),
        (
            MLFLOW,
            {"monitoring": {"serviceMonitor": {"enabled": True}, "metrics": {"enabled": False}}},
            "would scrape metrics that monitoring.metrics.enabled=false turns off",
        ),
        (
            MLFLOW,
            {"monitoring": {"serviceMonitor": {"interval": "9999ms"}}},
            "scrapeTimeout=10s is longer than monitoring.serviceMonitor.interval",
        ),
    ],
)
def test_invalid_values_fail_with_a_clear_error(chart: Path, values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(chart, values)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        budget(minAvailable="50%", maxUnavailable=None),
        budget(replicas=0, minAvailable=1, maxUnavailable=None),
        budget(replicas=1),
        {**MINIMAL, "monitoring": {"serviceMonitor": {"interval": "1m", "scrapeTimeout": "60s"}}},
        {**TRACKED, **model("models:/churn@champion")},
        {**TRACKED, **model("models:/churn/12")},
        {**TRACKED, **model("models:/m-" + "0a" * 16)},
        {**TRACKED, **model("runs:/0a1b/model")},
        {**TRACKED, **model("mlflow-artifacts:/1/models/m-1/artifacts")},
        model("s3://lake/churn/7"),
        model("gs://lake"),
        model("az://models/churn/"),
        {"model": {"uri": "https://host:8443/x", "sha256": "a" * 64}},
        model("pvc://models"),
        model("oci://registry.example:5000/team/churn:7#model"),
        {**MINIMAL, "deployment": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 0}}}},
        {**MINIMAL, "resources": {"requests": {"cpu": None}}},
        {**MINIMAL, "resources": {"requests": {"cpu": 1}, "limits": None}},
        {**MINIMAL, "pod": {"securityContext": None, "topologySpreadConstraints": None}, "securityContext": None},
        {**MINIMAL, "global": {"anything": True}},
    ],
)
def test_valid_values_render(values: Values) -> None:
    assert render(MODEL_SERVICE, values)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({**MINIMAL, "replicas": 3}, "replicas"),
        ({"model": {"url": "file:///models/example"}}, "url"),
        ({**MINIMAL, "replicaCount": "two"}, "replicaCount"),
        ({**MINIMAL, "service": {"type": "clusterip"}}, "type"),
        ({**MINIMAL, "monitoring": {"serviceMonitor": {"interval": "15"}}}, "interval"),
        ({**MINIMAL, "fullnameOverride": "Upper_Case"}, "fullnameOverride"),
        ({**MINIMAL, "ingress": {"hosts": [{"name": "a.example"}]}}, "name"),
        ({**MINIMAL, "httpRoute": {"canary": {"weight": 101}}}, "weight"),
        ({**MINIMAL, "networkPolicy": {"ingressFrom": [{"namespace": "default"}]}}, "namespace"),
        ({**MINIMAL, "autoscaling": {"minReplicas": 0}}, "minReplicas"),
        (budget(minAvailable="half"), "minAvailable"),
        ({**MINIMAL, "deployment": {"strategy": {"rollingUpdate": {"maxSurge": ""}}}}, "maxSurge"),
        ({**MINIMAL, "image": None}, "image"),
        ({**MINIMAL, "image": {"repository": None}}, "repository"),
        ({**MINIMAL, "extraEnv": ["NAME=value"]}, "extraEnv"),
        ({**MINIMAL, "image": {"tag": "v1:2"}}, "tag"),
        ({"model": {**MINIMAL["model"], "sha256": "ABC"}}, "sha256"),
        ({**MINIMAL, "commonAnnotations": {"owner": 1}}, "owner"),
        ({**MINIMAL, "api": {"auth": {"jwt": {"issuer": "login.example.com", "audience": "a"}}}}, "issuer"),
        ({**MINIMAL, "api": {"auth": {"jwt": {"scopes": ["a"]}}}}, "scopes"),
        ({**MINIMAL, "api": {"quotas": {"default": {"requestsPerSecond": -1}}}}, "requestsPerSecond"),
        ({**MINIMAL, "api": {"quotas": {"default": {"burstSeconds": 0}}}}, "burstSeconds"),
        ({**MINIMAL, "api": {"quotas": {"owners": {"web": {"requestsPerMinute": 1}}}}}, "requestsPerMinute"),
        ({**MINIMAL, "api": {"quotas": {"owners": {"web": {"rowsPerSecond": "5"}}}}}, "rowsPerSecond"),
    ],
)
def test_schema_rejects_unknown_keys_and_wrong_types(values: Values, key: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(MODEL_SERVICE, values)

    assert key in str(refused.value)
    assert "values don't meet the specifications of the schema" in str(refused.value)


def test_extra_env_rejects_variables_that_the_chart_sets() -> None:
    registered = {"uri": "models:/churn@live", "follow": {"enabled": True}}
    more = {
        "model": registered,
        "mlflow": {"trackingUri": "http://mlflow"},
        "challenger": {"uri": "models:/churn@next"},
    }
    given = {name for values in (MINIMAL, more) for name in environment(render(MODEL_SERVICE, values))}
    names = {name for name in given if name.startswith("MODEL_SERVICE_")}

    assert {"MODEL_SERVICE_FOLLOW_POLL_SECONDS", "MODEL_SERVICE_CHALLENGER_URI"} < names
    for name in names:
        with pytest.raises(HelmError, match=f"extraEnv sets {name}, which the chart sets itself"):
            render(MODEL_SERVICE, {**MINIMAL, "extraEnv": [{"name": name, "value": "x"}]})
