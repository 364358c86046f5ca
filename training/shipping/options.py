"""Options of the commands that maintain an inference log."""

from pydantic import Field, field_validator

from training.data.log_store import FORMS
from training.settings import Settings


class LogOptions(Settings):
    """The log of a command that does not connect to MLflow."""

    mlflow_tracking_uri: str = Field(
        default="", validation_alias="mlflow_tracking_uri", description="Not used by this command."
    )
    log_uri: str = Field(description=f"Place of the log: {FORMS}.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Accept any address: the command does not connect to MLflow."""
        return uri
