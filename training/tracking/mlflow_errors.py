"""Errors of MLflow, translated into sentences for users."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

from training.errors import TrackingError


@contextmanager
def mlflow_at(uri: str) -> Iterator[None]:
    """Use the MLflow server at this address.

    Raises:
        TrackingError: The server is unreachable or refuses.
    """
    mlflow.set_tracking_uri(uri)
    try:
        yield
    except (MlflowException, OSError) as error:  # requests raises OSError when it transfers artifacts
        raise TrackingError(_sentence(uri, error)) from error


def _sentence(where: str, error: MlflowException | OSError) -> str:
    if isinstance(error, OSError):
        return f"The file transfer with MLflow at {where} failed: {' '.join(str(error).split())}"
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, OSError):
        return (
            f"MLflow at {where} is unreachable ({cause}): check that the server runs, that the network allows the "
            "connection, and that MLFLOW_TRACKING_URI is its address."
        )
    return f"MLflow at {where} refused ({error.error_code}): {' '.join(str(error).split())}"
