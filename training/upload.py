"""The command `upload`: bring the files of a training to MLflow that was away when it ended."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import CliPositionalArg

from training.bundle import RECORD_FILE, Record
from training.errors import InputError
from training.publish import publish
from training.settings import Settings, server_address
from training.tracking import answering

__all__ = ["Options", "run"]


class Options(Settings):
    """Upload a folder that `train` kept, and register its model."""

    folder: CliPositionalArg[Path] = Field(description="The folder that the failed run named.")
    mlflow_tracking_uri: str = Field(
        default="", validation_alias="mlflow_tracking_uri", description="The run's MLflow server, if it has moved."
    )
    retry_seconds: float = Field(default=60, ge=0, description="How long a lost MLflow is waited for.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Take none: then it is the run's."""
        return server_address(uri) if uri else uri


def run(options: Options) -> dict[str, Any]:
    """Finish the run and return what names the version; the folder may be deleted then.

    Raises:
        InputError: the folder is none that `train` kept.
        TrackingError: MLflow does not answer or refuses; the folder is as it was.
    """
    try:
        record = Record.model_validate_json((options.folder / RECORD_FILE).read_bytes())
    except (OSError, ValidationError):
        raise InputError(f"{options.folder} is no folder that `train` kept: it has no whole {RECORD_FILE}.") from None
    where = options.mlflow_tracking_uri or record.mlflow_tracking_uri
    with answering(where), mlflow.start_run(run_id=record.run_id):
        return asdict(publish(options.folder, record.run_id, where, retry_seconds=options.retry_seconds))
