"""A scikit-learn model in its own Python: nothing is built for it, and its packages come from a volume of wheels.

The service's pods have no way out of the cluster, as in many companies.
"""

import json
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tools.bench.environments import interpreter
from tools.cluster.access import Access, http
from tools.cluster.cache import ROOT
from tools.cluster.images import APP, MODEL_PYTHON, REGISTRY, TRAINING
from tools.cluster.main_job import MONITORING, OBSERVABILITY, image_values, install
from tools.cluster.registry import push

RELEASE = NAMESPACE = "any-model"
IN = ("--namespace", NAMESPACE)
MODEL = "flowers"
_DRAWN = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {"petal": _DRAWN.random(60), "sepal": _DRAWN.random(60), "colour": _DRAWN.choice(["red", "blue"], 60)}
)
# The model is logged with the packages of this environment.
_PINNED = [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy", "cloudpickle")]
REQUIREMENTS = [f"mlflow=={version('mlflow')}", *_PINNED]
WHEELS = [f"mlflow-skinny=={version('mlflow')}", *_PINNED]
VALUES = [
    f"--set=model.uri=models:/{MODEL}/1",
    "--set=model.flavor=pyfunc",
    f"--set=mlflow.trackingUri=http://{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local:5000",
    "--set=model.environment.wheelhouse.existingClaim=wheels",
    f"--set=model.environment.image.registry={REGISTRY or 'localhost'}",
    f"--set=model.environment.image.repository={MODEL_PYTHON.name}",
    f"--set-string=model.environment.image.tag={MODEL_PYTHON.tag}",
    "--set=replicaCount=1",
    "--set=podDisruptionBudget.enabled=false",
    "--set=resources.requests.cpu=50m",
    "--set=model.worker.resources.requests.cpu=50m",
]
STORAGE = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: wheels}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: fill}}
spec:
  securityContext: {{runAsUser: 10001, runAsNonRoot: true, fsGroup: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  terminationGracePeriodSeconds: 0
  containers:
    - name: fill
      image: {image}
      command: [python3, -c, "import time; time.sleep(3600)"]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      volumeMounts: [{{name: wheels, mountPath: /wheels}}]
  volumes: [{{name: wheels, persistentVolumeClaim: {{claimName: wheels}}}}]
"""


@pytest.fixture(scope="module")
def pipeline(access: Access) -> Iterator[Pipeline]:
    """Pipeline with a ColumnTransformer that is version 1 of a registered model."""
    labels = np.where((ROWS.petal > 0.5) ^ (ROWS.colour == "red"), "large", "small")
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), (StandardScaler(), ["petal", "sepal"]))
    found = make_pipeline(columns, LogisticRegression()).fit(ROWS, labels)
    with (
        access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as url,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore"),
    ):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        import mlflow.sklearn
        from mlflow.models import infer_signature

        mlflow.set_tracking_uri(url)
        try:
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    found,
                    name="model",
                    registered_model_name=MODEL,
                    signature=infer_signature(ROWS, found.predict_proba(ROWS)),
                    input_example=ROWS.head(2),
                    pyfunc_predict_fn="predict_proba",
                    serialization_format="cloudpickle",
                    pip_requirements=REQUIREMENTS,
                )
            yield found
        finally:
            mlflow.MlflowClient().delete_registered_model(MODEL)
            mlflow.set_tracking_uri("")


@pytest.fixture(scope="module")
def namespace(access: Access, pipeline: Pipeline) -> Iterator[Access]:
    """A namespace with a volume of wheels, which enforces the restricted Pod Security Standard."""
    del pipeline
    push(APP)
    push(MODEL_PYTHON)
    access.kubectl("create", "namespace", NAMESPACE)
    access.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    try:
        access.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", stdin=STORAGE.format(image=MODEL_PYTHON.reference))
        access.kubectl("wait", "--namespace", NAMESPACE, "--for=condition=Ready", "pod/fill", "--timeout=300s")
        with tempfile.TemporaryDirectory() as wheels:
            command = [interpreter("3.13"), "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", wheels]
            subprocess.run([*command, *WHEELS], check=True, timeout=900)
            access.kubectl("cp", f"{wheels}/.", f"{NAMESPACE}/fill:/wheels")
        access.kubectl("delete", "pod", "fill", "--namespace", NAMESPACE)
        yield access
    finally:
        access.kubectl("delete", "namespace", NAMESPACE)


def test_model_is_served_with_its_own_packages(namespace: Access, pipeline: Pipeline) -> None:
    install(namespace, RELEASE, ROOT / "charts" / "model-service", NAMESPACE, *VALUES, *image_values(APP))
    with namespace.forward(f"service/{RELEASE}-model-service", 80, NAMESPACE) as url:
        known = http(f"{url}/model")
        answer = http(f"{url}/predict", {"columns": list(ROWS), "data": ROWS.to_numpy().tolist()})
        invocations = http(f"{url}/invocations", {"dataframe_records": ROWS.to_dict("records")})

    assert known["flavor"] == "pyfunc"
    assert known["mismatches"] == []
    assert np.allclose(answer["predictions"], pipeline.predict_proba(ROWS), rtol=1e-12, atol=0)
    assert invocations["predictions"] == answer["predictions"]
    namespace.helm("test", RELEASE, "--namespace", NAMESPACE)


def test_batch_scores_with_the_packages_of_the_model(namespace: Access) -> None:
    """The worker of a Job is a sidecar, so that the Job completes."""
    release = f"{RELEASE}-batch"
    push(TRAINING)
    namespace.kubectl("create", "configmap", "rows", f"--from-literal=in.csv={ROWS.to_csv(index=False)}", *IN)
    volume = [{"name": "rows", "configMap": {"name": "rows"}}]
    mount = [{"name": "rows", "mountPath": "/data"}]
    scored = [
        "--set=batch.enabled=true",
        "--set=batch.data=/data/in.csv",
        "--set=batch.output=/tmp/scores",
        f"--set-json=batch.extraVolumes={json.dumps(volume)}",
        f"--set-json=batch.extraVolumeMounts={json.dumps(mount)}",
        *image_values(TRAINING, "jobs.image"),
    ]
    install(namespace, release, ROOT / "charts" / "model-service", NAMESPACE, *VALUES, *image_values(APP), *scored)
    job = "job", "--selector", f"app.kubernetes.io/instance={release}", *IN
    namespace.kubectl("wait", *job, "--for=condition=Complete", "--timeout=300s")
    selector = f"batch.kubernetes.io/job-name,app.kubernetes.io/instance={release}"
    log = namespace.kubectl("logs", "--selector", selector, "--container", "score", "--tail=-1", *IN)

    answer = json.loads(log.splitlines()[-1])
    assert answer["rows"] == len(ROWS)
    assert answer["model"]["flavor"] == "pyfunc"
