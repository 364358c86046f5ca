"""The lifecycle of a run in MLflow.

Every run ends as FINISHED, as FAILED with the reason in its tag `failure`, or as KILLED by a signal. If SIGKILL ended
the process, the next run of the same Job or on the same machine ends the run: as FINISHED if its version is registered,
otherwise as FAILED.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from training.errors import Terminated, TrainingError
from training.memory import enough_memory
from training.tracking.mlflow_errors import mlflow_at
from training.train_options import TrainOptions

FAILURE_TAG = "failure"
JOB_TAG = "k8s.job"  # from MLFLOW_RUN_CONTEXT, which the chart sets
_RUNNING = "attributes.status = 'RUNNING'"
_PROCESS_TAG = "process"  # machine, namespace of process numbers, number and start time of the process
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
            tags |= {_PROCESS_TAG: own} if (own := _process(os.getpid())) else {}
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


def end_published(client: MlflowClient, run_id: str) -> bool:
    """End a run whose version is registered, if its process was killed before that. Return whether it has a version."""
    if not client.search_model_versions(f"run_id = '{run_id}'"):
        return False
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")
        log.warning("run %s is marked FINISHED: its process ended after its version was registered", run_id)
    return True


def _close_stale(client: MlflowClient, experiment_id: str, run_id: str, job: str) -> None:
    """End the stale runs of the experiment.

    They are those of this Job, because a pod of a Job starts after the previous one has ended, those of processes of
    this machine that no longer exist, and the trials of runs that have ended.
    """
    running = {run.info.run_id: run.data.tags for run in client.search_runs([experiment_id], _RUNNING)}
    alive = {
        each
        for each, tags in running.items()
        if each == run_id or not ((job and tags.get(JOB_TAG) == job) or _ended(tags.get(_PROCESS_TAG, "")))
    }
    for stale, tags in running.items():
        if tags.get(MLFLOW_PARENT_RUN_ID, stale) in alive or end_published(client, stale):
            continue
        where = "of the same Job" if job and tags.get(JOB_TAG) == job else "on the same machine"
        client.set_tag(stale, FAILURE_TAG, f"its process was killed; run {run_id} {where} detected it")
        client.set_terminated(stale, "FAILED")
        log.warning("run %s is marked FAILED: its process ended while the run was RUNNING", stale)


def _process(pid: int) -> str:
    """Return what identifies a process: machine, namespace, number and start time; "" without it or without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return " ".join([boot, os.readlink("/proc/self/ns/pid"), str(pid), started])
    except OSError:
        return ""


def _ended(process: str) -> bool:
    """Return whether a process of this machine and namespace, as `_process` described it, has ended."""
    own, known = _process(os.getpid()).split(), process.split()
    if len(own) != len(known) or own[:2] != known[:2]:
        return False
    return _process(int(known[2])) != process
