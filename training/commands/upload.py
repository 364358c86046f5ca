"""The command `upload`: upload a finished run that could not be published."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import CliPositionalArg

from training.errors import InputError
from training.settings import Settings, server_address
from training.tracking.bundle import RECORD_FILE, Record
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.publish import publish

__all__ = ["Options", "run"]


class Options(Settings):
    """Upload a folder that `train` kept, and register its model."""

    folder: CliPositionalArg[Path] = Field(description="Folder from the error of the failed run.")
    mlflow_tracking_uri: str = Field(
        default="",
        validation_alias="mlflow_tracking_uri",
        description="Address of the MLflow server of the run, if it has changed.",
    )
    retry_seconds: float = Field(default=60, ge=0, description="Seconds to wait for an unreachable MLflow.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Accept an empty address, which selects the server of the run."""
        return server_address(uri) if uri else uri


def run(options: Options) -> dict[str, Any]:
    """Publish the run, and return the registered version. The folder can then be deleted.

    Raises:
        InputError: `train` did not write the folder.
        TrackingError: MLflow is unreachable or refuses. The folder is unchanged.
    """
    try:
        record = Record.model_validate_json((options.folder / RECORD_FILE).read_bytes())
    except (OSError, ValidationError):
        raise InputError(
            f"{options.folder} is not a folder that `train` kept: it has no complete {RECORD_FILE}."
        ) from None
    where = options.mlflow_tracking_uri or record.mlflow_tracking_uri
    with mlflow_at(where), mlflow.start_run(run_id=record.run_id):
        return asdict(publish(options.folder, record.run_id, where, retry_seconds=options.retry_seconds))
