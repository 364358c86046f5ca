"""The command `erase`: delete the rows of one subject from an inference log.

A file that contains such rows is replaced by one without them. Rows that still wait in a pod are not found: run the
command again once their segments are shipped.
"""

from typing import Any

from pydantic import Field, field_validator

from training.data.log_store import FORMS, LogStore
from training.settings import Settings
from training.shipping.erase import erase


class Options(Settings):
    """Delete the rows of one subject from an inference log, with the labels of these rows."""

    mlflow_tracking_uri: str = Field(
        default="", validation_alias="mlflow_tracking_uri", description="Not used by this command."
    )
    log_uri: str = Field(description=f"Place of the log: {FORMS}.")
    column: str = Field(
        description="Column that identifies the subject: input_<column of the model>, owner or request_id."
    )
    values: tuple[str, ...] = Field(min_length=1, description="Values of the subject in this column, as a JSON list.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Accept any address: the command does not connect to MLflow."""
        return uri


def run(options: Options) -> dict[str, Any]:
    """Delete the rows, and return their number by kind.

    Raises:
        InputError: The log has no such column.
        TrainingError: The place of the log is unreachable.
    """
    return {"log": options.log_uri, "deleted": erase(LogStore(options.log_uri), options.column, options.values)}
