"""A challenger on the cluster: what pods count equals the models' own predictions, and the live gate reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.model.contract import MODEL_FILE
from app.model.digest import digest_of
from app.model.files import ModelFiles
from tests.app.following.registry import ALIAS
from tests.e2e.two_versions import register_two_versions
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http, promql, wait_for_series
from tools.cluster.images import APP
from tools.cluster.main_job import NAMESPACE, TRACKING_URI, image_values, install
from tools.loopback import until
from training.gate.live import judge_live
from training.gate.promotion import LiveRules

RELEASE = "challenged"
FULLNAME = f"{RELEASE}-model-service"
ROWS = 400


@dataclass(frozen=True)
class Versions:
    """A registered model with two versions, of which the second one is the challenger."""

    name: str
    folders: tuple[Path, Path]

    def scores(self, rows: list[list[float]]) -> tuple[Any, Any]:
        """Return the scores of both versions."""
        first, second = (
            xgb.Booster(model_file=str(folder / MODEL_FILE)).inplace_predict(
                np.array(rows, dtype=np.float32), validate_features=False
            )
            for folder in self.folders
        )
        return first, second


@pytest.fixture
def versions(mlflow_url: str, tmp_path: Path) -> Versions:
    """Register the model of the main job, and as the challenger the same model with half of its trees."""
    registry, folders = register_two_versions(mlflow_url, tmp_path, RELEASE)
    registry.point("2")
    return Versions(registry.name, folders)


@pytest.fixture
def pod(access: Access, versions: Versions) -> Iterator[str]:
    """Address of a pod that serves the first version with the second as its challenger."""
    given = {
        "model.uri": f"models:/{versions.name}/1",
        "challenger.uri": f"models:/{versions.name}@{ALIAS}",
        "mlflow.trackingUri": TRACKING_URI,
        "replicaCount": "1",
        "resources.requests.cpu": "50m",
        "monitoring.serviceMonitor.enabled": "true",
    }
    chosen = [f"--set={key}={value}" for key, value in given.items()]
    install(access, RELEASE, MODEL_SERVICE, NAMESPACE, *image_values(APP), *chosen)
    try:
        with access.forward(f"deployment/{FULLNAME}", 8000, NAMESPACE) as url:
            yield url
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def test_pods_compare_a_challenger_and_the_live_gate_decides(pod: str, versions: Versions, prometheus: str) -> None:
    known = http(f"{pod}/model")
    until(lambda: http(f"{pod}/model")["challenger"]["state"] == "comparing")
    example = np.array(known["input_example"]["data"], dtype=float)
    names = known["input_example"]["columns"]
    drawn = np.random.default_rng(0)
    rows = (example[drawn.integers(len(example), size=ROWS)] * drawn.normal(1, 0.3, (ROWS, len(names)))).tolist()
    compared = f'model_challenger_rows_total{{model_name="{versions.name}"}}'
    wait_for_series(prometheus, f"count_over_time({compared}[5m]) >= 2")  # the increase from 0 counts

    for start in range(0, ROWS, 40):
        http(f"{pod}/predict", {"columns": names, "data": rows[start : start + 40]})
    wait_for_series(prometheus, f"{compared} == {ROWS}")

    order = [names.index(column["name"]) for column in known["signature"]]
    old, new = versions.scores([[row[i] for i in order] for row in rows])
    differ = int(((old > 0.5) != (new > 0.5)).sum())
    found = promql(prometheus, f'model_challenger_disagreements_total{{model_name="{versions.name}"}}')
    assert [float(each["value"][1]) for each in found] == [differ]
    sha256 = digest_of(ModelFiles(versions.folders[1]).digests())
    rules = LiveRules(
        address=prometheus, window="15m", selector=f'namespace="{NAMESPACE}",job="{FULLNAME}"', min_rows=ROWS // 2,
        max_error_ratio=0.05, max_disagreement=min(differ / ROWS + 0.1, 1.0), min_labels=30, min_gain=None,
        confidence=0.95,
    )  # fmt: skip
    live = judge_live(rules, versions.name, "1", "2", sha256)
    assert all(check.passed for check in live.checks), live.checks
    assert len(live.checks) == 3
