"""The one error that a person reads."""

import os
from pathlib import Path

MESSAGE_BYTES = 4096  # the kubelet cuts a termination message there


class NotReadyError(Exception):
    """Something that the server needs is missing or refuses; the text is a sentence that says what and what to do."""


def leave_message(sentence: str) -> None:
    """Write a sentence where `kubectl describe pod` finds it; outside a pod there is no such place."""
    path = Path(os.environ.get("TERMINATION_MESSAGE_PATH", "/dev/termination-log"))
    if path.exists() and os.access(path, os.W_OK):
        path.write_bytes(sentence.encode()[:MESSAGE_BYTES])
