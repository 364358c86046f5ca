"""What a service exports about the newest version in a real MLflow server."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.monitoring.candidate import LONGEST_REASON
from app.settings import Settings
from tests.app.following.registry import ALIAS, Registry
from tests.app.harness import serving, settings_for
from tools.loopback import until

NAME = "it's trained here"  # a quote must not end the filter
GATE = {"gate.decision": "refused", "gate.reason": 'auc 0.71 is below "0.75".'}


@pytest.fixture(scope="module")
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, NAME)


def settings_of(registry: Registry, folder: Path, uri: str = f"models:/{NAME}@{ALIAS}", **changes: Any) -> Settings:
    return settings_for(uri, folder, **{"mlflow_tracking_uri": registry.address, **changes})


def candidates(client: TestClient) -> list[dict[str, str]]:
    """Return the labels of each series."""
    lines = re.findall(r"^model_candidate_info\{(.*)\} 1\.0$", client.get("/metrics").text, re.MULTILINE)
    return [dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line)) for line in lines]


def test_decision_about_the_newest_version_is_exported(registry: Registry, saved: Path, tmp_path: Path) -> None:
    champion = registry.register(saved)
    registry.point(champion)

    with serving(settings_of(registry, tmp_path, candidate_poll_seconds=0.1)) as client:
        labels = {"model_name": NAME, "candidate_version": champion, "decision": "", "reason": ""}
        until(lambda: candidates(client) == [labels])
        refused = registry.register(saved, **GATE)
        labels = {"candidate_version": refused, "decision": "refused", "reason": 'auc 0.71 is below \\"0.75\\".'}
        until(lambda: candidates(client) == [{"model_name": NAME, **labels}])
        registry.tag(refused, **{"gate.decision": "promoted", "gate.reason": "x" * 1000})
        labels = {"candidate_version": refused, "decision": "promoted", "reason": "x" * LONGEST_REASON}
        until(lambda: candidates(client) == [{"model_name": NAME, **labels}])
        assert client.get("/model").json()["version"] == champion


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "candidate"]


def test_service_that_does_not_train_asks_for_no_candidate(registry: Registry, saved: Path, tmp_path: Path) -> None:
    until(lambda: not threads())  # of an earlier service in this process
    refused = registry.register(saved, **GATE)
    registry.point(refused)

    with serving(settings_of(registry, tmp_path)) as client:
        assert threads() == []
        assert refused not in [labels["candidate_version"] for labels in candidates(client)]
    with serving(settings_of(registry, tmp_path, candidate_poll_seconds=60)):
        until(threads)


def test_candidates_of_a_folder_are_refused(registry: Registry, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CANDIDATE_POLL_SECONDS requires a model URI of the registry"):
        settings_of(registry, tmp_path, saved.as_uri(), candidate_poll_seconds=1)
