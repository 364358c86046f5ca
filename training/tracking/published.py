"""Versions that an earlier training has published, found by the key of the training.

A Job that is created again, by a rollback or for a label, has the key of the first Job and does not repeat its
training.
"""

from mlflow import MlflowClient

from app.model.digest import DIGEST_TAG
from training.tracking import manifest
from training.tracking.publish import KEY_TAG, Published
from training.tracking.runs import end_published


def published(client: MlflowClient, name: str, key: str) -> Published | None:
    """Return the latest version with the key, or None. If its process was killed after that, its run is ended.

    Raises:
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    found = client.search_model_versions(f"name = '{name}' and tag.`{KEY_TAG}` = '{key}'")
    if not found:
        return None
    latest = max(found, key=lambda each: int(each.version))
    record = manifest.read(client, str(latest.run_id))
    end_published(client, str(latest.run_id))
    return Published(
        name=name,
        version=str(latest.version),
        uri=f"models:/{name}/{latest.version}",
        run_id=str(latest.run_id),
        sha256=latest.tags[DIGEST_TAG],
        file_sha256=record.model_sha256,
        metrics=record.metrics,
    )
