"""Errors of the commands and their exit codes. The message of an error is one sentence that contains the remedy.

The Job of the chart retries exit code 1, and ends at once with 2 or 3.

TrainingError               1
├── InputError              2: the data or the settings cannot be used
├── RefusedError            3: the gate refused
├── TrackingError           1: MLflow is unreachable or fails, or returns bytes that differ from those it received
│   └── TrackingRefusal     2: MLflow refuses the request
└── ResourceError           2: no disk space, memory or permission on this machine
"""

from typing import Any


class TrainingError(Exception):
    """The command failed."""

    exit_code = 1


class InputError(TrainingError):
    """The data or a setting cannot be used. The message names the column and the row, or the setting."""

    exit_code = 2


class RefusedError(TrainingError):
    """The command refused the request. Its answer is still printed.

    Args:
        text: The reason.
        answer: JSON to print.
        exit_code: 3, or another code that the command documents.
    """

    def __init__(self, text: str, answer: dict[str, Any], exit_code: int = 3) -> None:
        super().__init__(text)
        self.answer = answer
        self.exit_code = exit_code


class TrackingError(TrainingError):
    """MLflow is unreachable or fails, or returns bytes that differ from those it received."""


class TrackingRefusal(TrackingError):  # noqa: N818 - an answer of the server, not a failure
    """MLflow refuses the request, which a retry cannot change."""

    exit_code = 2


class ResourceError(TrainingError):
    """There is no disk space, memory or write permission."""

    exit_code = 2


class Terminated(BaseException):
    """SIGTERM was received. It is not an `Exception`, so that only cleanup code handles it."""
