"""Metric of the newest version in the registry, and of what the gate decided about it.

A refused training run ends its Job complete, so nothing in Kubernetes shows it. The gate writes its decision to tags of
the version, and a pod of the release that trains reads them.
"""

import logging
import threading
import time

from prometheus_client import Gauge

from app.errors import LoadError
from app.registry.client import RegistryClient
from app.registry.resolve import pairs
from app.settings import Settings
from app.uri import RegisteredModel

CALL_SECONDS = 20.0
LONGEST_REASON = 300  # characters; labels are stored with each series

CANDIDATE = Gauge(
    "model_candidate_info",
    "Newest version in the registry, and what the gate decided about it (empty: nothing yet); always 1.",
    ["model_name", "candidate_version", "decision", "reason"],
)

log = logging.getLogger(__name__)


def watch(settings: Settings, source: RegisteredModel, stopping: threading.Event) -> None:
    """Export the newest version of a model until the process ends. While MLflow is silent, the last answer stays.

    Args:
        settings: Settings of the service.
        source: Model in the registry.
        stopping: Set when the process is ending.
    """
    shown: tuple[str, str, str] | None = None
    while True:
        found = shown
        try:
            found = newest(RegistryClient(settings, time.monotonic() + CALL_SECONDS), source.name)
        except LoadError as error:
            log.warning("MLflow does not name the newest version of the model: %s", error)
        if found != shown:
            CANDIDATE.remove_by_labels({"model_name": settings.served_name})
            if found:
                CANDIDATE.labels(settings.served_name, *found).set(1)
            shown = found
        if stopping.wait(settings.candidate_poll_seconds):
            return


def newest(client: RegistryClient, name: str) -> tuple[str, str, str] | None:
    """Return the newest version of a model, the decision of the gate and its reason, or None if there is no version.

    Raises:
        LoadError: MLflow does not respond, or refuses.
    """
    quote = '"' if "'" in name else "'"
    answer = client.get(
        "mlflow/model-versions/search",
        filter=f"name={quote}{name}{quote}",
        max_results="1",
        order_by="version_number DESC",
    )
    versions = answer.get("model_versions")
    if not isinstance(versions, list) or not versions:
        return None
    tags = pairs(versions[0].get("tags"))
    return str(versions[0]["version"]), tags.get("gate.decision", ""), tags.get("gate.reason", "")[:LONGEST_REASON]
