"""The check of a running server by a client: python -m mlflow_server.check

The pod of `helm test` logs a run with an artifact, reads both back, finds the run with a search, and deletes it.
MLflow's client reads address and credentials from MLFLOW_TRACKING_URI, _USERNAME and _PASSWORD.
"""

import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_server.errors import NotReadyError, leave_message

EXPERIMENT = "helm-test"

log = logging.getLogger("mlflow_server")


def check(client: MlflowClient) -> str:
    """Check the server, and return the ID of the run.

    Raises:
        NotReadyError: The server returns different data than it received. The message names the step.
        MlflowException: The server refuses or is unreachable.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    value, text = uuid.uuid4().hex, os.urandom(64 * 1024)
    run_id: str = client.create_run(experiment_id, run_name="helm test").info.run_id
    try:
        client.log_param(run_id, "value", value)
        client.log_metric(run_id, "loss", 0.25)
        with tempfile.TemporaryDirectory() as folder:
            sent = Path(folder) / "artifact.bin"
            sent.write_bytes(text)
            client.log_artifact(run_id, str(sent), "files")
            sent.unlink()
            if Path(client.download_artifacts(run_id, "files/artifact.bin", folder)).read_bytes() != text:
                raise NotReadyError("The downloaded artifact differs from the uploaded one.")
        data = client.get_run(run_id).data
        if (data.params.get("value"), data.metrics.get("loss")) != (value, 0.25):
            raise NotReadyError(f"The values of the run differ from the logged ones: {data.params} {data.metrics}.")
        found = client.search_runs([experiment_id], f"params.value = '{value}' and metrics.loss < 1")
        if [run.info.run_id for run in found] != [run_id]:
            raise NotReadyError(f"The search for the run found {len(found)} runs.")
    finally:
        client.delete_run(run_id)
    return run_id


def main() -> int:
    """Run the check, and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        run_id = check(MlflowClient())
    except (NotReadyError, MlflowException) as problem:
        sentence = f"{os.environ.get('MLFLOW_TRACKING_URI', 'MLflow')}: {problem}"
        log.error("%s", sentence)
        leave_message(sentence)
        return 1
    log.info("run %s was logged with an artifact, read back, found by a search and deleted", run_id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
