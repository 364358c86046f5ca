"""The command `reproduce`: retrain a version from its manifest, and compare the model files.

Nothing is registered or checked out. The command uses the code, the environment and the data of this machine, and lists
what differs from the record.

Exit codes: 0 the bytes are identical, 4 the bytes differ but the predictions are the same, 5 the predictions and the
listed facts differ, 6 the predictions differ but no recorded fact does, 1 and 2 as for every command.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from pydantic import Field
from pydantic_settings import CliPositionalArg

from training.environment import cpu_limit
from training.errors import InputError, RefusedError
from training.reproduction.comparison import compare
from training.reproduction.retrain import retrain
from training.settings import Settings
from training.tracking import evidence, manifest, registered
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.registered import UnusableError

EXIT_CODES = {"identical": 0, "same predictions": 4, "differs": 5, "unexplained": 6}

log = logging.getLogger("training")


class Options(Settings):
    """Retrain a version without registering it, and compare the model file, the data and the environment."""

    target: CliPositionalArg[str] = Field(description="models:/<name>/<version> or the ID of a run.")
    moved_data: str = Field(
        default="", description="Present location of the data, if they were moved after the training."
    )
    nthread: int = Field(
        default_factory=cpu_limit, ge=1, description="Number of threads. The model does not depend on it."
    )
    log_outcome: bool = Field(default=False, description="Write the outcome to the version as tags.")


def run(options: Options) -> dict[str, Any]:
    """Retrain a version, and return the comparison.

    Raises:
        RefusedError: The model files differ. The exit code shows how.
        TrainingError: The version could not be retrained.
    """
    with mlflow_at(options.mlflow_tracking_uri), tempfile.TemporaryDirectory() as folder:
        client = mlflow.MlflowClient()
        name, version = _version(client, options.target)
        try:
            known = registered.read(client, name, version, Path(folder))
        except UnusableError as error:
            raise InputError(f"models:/{name}/{version} {error}.") from None
        if not known.run_id:
            raise InputError(f"models:/{name}/{version} has no run, and therefore no record of its training.")
        record = client.get_run(known.run_id)
        recorded = manifest.read(client, known.run_id)
        again = retrain(recorded, options.moved_data, options.nthread, options.git_commit)
        packages = evidence.recorded_packages(client, known.run_id)
        answer = compare(record, recorded, known, again, packages, evidence.names(client, known.run_id))
        if options.log_outcome:
            for key in ("outcome", "reason", "file_sha256"):
                client.set_model_version_tag(name, version, f"reproduce.{key}", str(answer[key])[:5000])
    _print(answer)
    sentence = f"{known.uri}: {answer['outcome']}: {answer['reason']}."
    if code := EXIT_CODES[answer["outcome"]]:
        raise RefusedError(sentence, answer, code)
    log.info("%s", sentence)
    return answer


def _version(client: MlflowClient, target: str) -> tuple[str, str]:
    if target.startswith("models:"):
        try:
            return registered.parse(target)
        except ValueError as error:
            raise InputError(f"{error}.") from None
    if not target.isalnum():
        raise InputError(f"{target!r} is neither models:/<name>/<version> nor the ID of a run.")
    if not (found := client.search_model_versions(f"run_id='{target}'")):
        raise InputError(f"The run {target} has no registered version.")
    return found[0].name, str(found[0].version)


def _print(answer: dict[str, Any]) -> None:
    """Log the differences as a table."""
    for each in answer["differences"]:
        log.info("%-11s %-16s recorded %s, here %s", *(str(value) or "nothing" for value in each.values()))
    for name, values in answer["metrics"].items():
        log.info("%-11s %-16s recorded %s, here %s", "metric", name, values["recorded"], values["here"])
    log.info(
        "%-11s %-16s recorded %s, here %s",
        "model",
        "file_sha256",
        answer["recorded_file_sha256"],
        answer["file_sha256"],
    )
