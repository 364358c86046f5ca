"""What may go wrong in a command, each with the exit code that a caller sees. A text is one sentence with the remedy.

TrainingError
├── InputError      2: data or settings that cannot be used
├── TrackingError   1: MLflow is not there, refuses, or holds other bytes than it was given
└── ResourceError   2: this machine has no room, memory or right for what is asked
"""

from typing import Any


class TrainingError(Exception):
    """The command cannot do what it was asked to."""

    exit_code = 1


class InputError(TrainingError):
    """The data or a setting cannot be used; names the place: column and row, or the setting."""

    exit_code = 2


class RefusedError(TrainingError):
    """The answer to what was asked is no; `answer` is printed all the same.

    Args:
        text: why.
        answer: what is printed.
        exit_code: 3, or another one that the command documents.
    """

    def __init__(self, text: str, answer: dict[str, Any], exit_code: int = 3) -> None:
        super().__init__(text)
        self.answer = answer
        self.exit_code = exit_code


class TrackingError(TrainingError):
    """MLflow does not answer, refuses, or gives out other bytes than it was given."""


class ResourceError(TrainingError):
    """No space, no memory, or no right to write here."""

    exit_code = 2


class Terminated(BaseException):
    """SIGTERM came. No `Exception`, so that nothing but a clean-up handles it on its way out."""
