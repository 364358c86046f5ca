"""Errors of MLflow, translated into sentences for users."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

from training.errors import TrackingError, TrackingRefusal

# Codes of MLflow for requests that a retry cannot change.
_REFUSALS = (
    "BAD_REQUEST", "FEATURE_DISABLED", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED",
)  # fmt: skip


@contextmanager
def mlflow_at(uri: str) -> Iterator[None]:
    """Use the MLflow server at this address.

    Raises:
        TrackingRefusal: The server refuses.
        TrackingError: The server is unreachable or fails.
    """
    mlflow.set_tracking_uri(uri)
    try:
        yield
    except (MlflowException, OSError) as error:  # requests raises OSError when it transfers artifacts
        refused = isinstance(error, MlflowException) and error.error_code in _REFUSALS and not _unreachable(error)
        raise (TrackingRefusal if refused else TrackingError)(_sentence(uri, error)) from error


def _sentence(where: str, error: MlflowException | OSError) -> str:
    if isinstance(error, OSError):
        return f"The file transfer with MLflow at {where} failed: {' '.join(str(error).split())}"
    if cause := _unreachable(error):
        return (
            f"MLflow at {where} is unreachable ({cause}): check that the server runs, that the network allows the "
            "connection, and that MLFLOW_TRACKING_URI is its address."
        )
    return f"MLflow at {where} refused ({error.error_code}): {' '.join(str(error).split())}"


def _unreachable(error: MlflowException) -> OSError | None:
    """Return the error of the connection that caused this one, if any."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return cause if isinstance(cause, OSError) else None
