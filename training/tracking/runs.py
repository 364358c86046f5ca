"""The lifecycle of a run in MLflow.

Every run ends as FINISHED, as FAILED with the reason in its tag `failure`, or as KILLED by a signal. If SIGKILL ended
the process, the next run of the same Job marks the run as FAILED.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from training.errors import Terminated, TrainingError
from training.memory import enough_memory
from training.tracking.mlflow_errors import mlflow_at
from training.train_options import TrainOptions

FAILURE_TAG = "failure"
JOB_TAG = "k8s.job"  # from MLFLOW_RUN_CONTEXT, which the chart sets
_MOST_CHARACTERS = 5000  # limit of a tag

log = logging.getLogger("training")


@contextmanager
def started(options: TrainOptions) -> Iterator[str]:
    """Start a run in the experiment of the model, and yield its ID.

    Raises:
        TrackingError: MLflow is unreachable or refuses, here or in the body.
        ResourceError: There is not enough memory for the body.
    """
    where = options.mlflow_tracking_uri
    try:
        with mlflow_at(where):
            experiment = mlflow.set_experiment(options.model_name)
            tags = {MLFLOW_GIT_COMMIT: options.git_commit.removesuffix("-dirty")} if options.git_commit else {}
            run = mlflow.start_run(tags=tags)
            run_id = str(run.info.run_id)
            log.info("run %s started in %s", run_id, where)
            _close_stale(MlflowClient(), experiment.experiment_id, run_id, run.data.tags.get(JOB_TAG, ""))
            with enough_memory():
                yield run_id
            mlflow.end_run("FINISHED")
    except (KeyboardInterrupt, Terminated):
        _end("KILLED", "stopped by a signal")
        raise
    except TrainingError as error:
        _end("FAILED", str(error))
        raise
    except BaseException as error:
        _end("FAILED", f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise


def _end(status: str, reason: str) -> None:
    """End the active run. Ignore an unreachable server."""
    if mlflow.active_run() is None:  # the run was not started
        return
    with suppress(MlflowException, OSError):
        mlflow.set_tag(FAILURE_TAG, reason[:_MOST_CHARACTERS])
    with suppress(MlflowException, OSError):
        mlflow.end_run(status)


def _close_stale(client: MlflowClient, experiment_id: str, run_id: str, job: str) -> None:
    """Mark the stale runs of this Job, because a pod of a Job starts after the previous one has ended."""
    if not job:
        return
    query = f"tags.`{JOB_TAG}` = '{job}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], query):
        if run.info.run_id != run_id:
            client.set_tag(
                run.info.run_id, FAILURE_TAG, f"its process was killed; run {run_id} of the same Job detected it"
            )
            client.set_terminated(run.info.run_id, "FAILED")
            log.warning(
                "run %s of Job %s is marked FAILED: its process ended while the run was RUNNING", run.info.run_id, job
            )
