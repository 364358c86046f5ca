"""What the failures of MLflow mean to the person who called it."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

from training.errors import TrackingError


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Talk to the MLflow server at this address.

    Raises:
        TrackingError: it does not answer or refuses.
    """
    mlflow.set_tracking_uri(uri)
    try:
        yield
    except (MlflowException, OSError) as error:  # OSError: what requests raises when it moves artifacts
        raise TrackingError(_sentence(uri, error)) from error


def _sentence(where: str, error: MlflowException | OSError) -> str:
    if isinstance(error, OSError):
        return f"The exchange of files with MLflow at {where} failed: {' '.join(str(error).split())}"
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, OSError):
        return (
            f"MLflow at {where} does not answer ({cause}): check that the server runs and is reachable from "
            "here, and that MLFLOW_TRACKING_URI is its address."
        )
    return f"MLflow at {where} refused ({error.error_code}): {' '.join(str(error).split())}"
