"""The error of the preparation, and the termination message of the pod."""

import os
from pathlib import Path

MESSAGE_BYTES = 4096  # the kubelet truncates a longer termination message


class NotReadyError(Exception):
    """A dependency of the server is missing or refuses. The message is a sentence with the problem and the remedy."""


def leave_message(sentence: str) -> None:
    """Write the termination message, which `kubectl describe pod` shows. Outside a pod, nothing is written."""
    path = Path(os.environ.get("TERMINATION_MESSAGE_PATH", "/dev/termination-log"))
    if path.exists() and os.access(path, os.W_OK):
        path.write_bytes(sentence.encode()[:MESSAGE_BYTES])
