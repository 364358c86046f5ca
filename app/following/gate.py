"""The checks that a version must pass before the service takes it. The first failure refuses it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from app.errors import LoadError, ServiceError
from app.model import memory
from app.model.base import Model
from app.model.files import Provenance
from app.model.interface import model_differences
from app.registry.refusals import Reason
from app.settings import Settings

CHILD_BYTES = 96 * 2**20  # for `app.following.child` before it reads a model
SPARE_BYTES = 32 * 2**20  # what it does not use of them
# One thread: each would reserve memory, which the limit of the process counts.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


class RefusedError(ServiceError):
    """A version that must not be served.

    Args:
        reason: Reason for metrics and other pods.
        cause: What is wrong, and what to do.
    """

    def __init__(self, reason: Reason, cause: str) -> None:
        super().__init__(cause)
        self.reason: Reason = reason


def try_loading(settings: Settings, file: Path, provenance: Provenance) -> None:
    """Load the model in a separate process, which damaged files may end.

    Args:
        settings: Settings of the service.
        file: Model file, in the folder of the model.
        provenance: Origin of the model.

    Raises:
        RefusedError: The model needs too much memory, ends the process, or cannot be loaded.
        LoadError: The process took too long or could not be started; a later attempt may succeed.
    """
    try:
        left = memory.require_beside(file, CHILD_BYTES)
    except LoadError as error:
        raise RefusedError("memory", str(error)) from None
    given = {
        "folder": str(file.parent.resolve()),
        "provenance": asdict(provenance),
        "compatibility": settings.model_compatibility,
        "categories": settings.model_categories,
        "unknown_category": settings.model_unknown_category,
        "bytes_left": left and left + SPARE_BYTES,
    }
    known: Mapping[str, str] = os.environ
    environment = _ENVIRONMENT | {name: known[name] for name in _KEPT_VARIABLES if name in known}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app.following.child"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=environment,
            timeout=settings.load_timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        cause = f"the process that tries it did not end ({type(error).__name__})"
        raise LoadError(cause, "raise MODEL_SERVICE_LOAD_TIMEOUT_SECONDS or the CPU limit", retryable=True) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise RefusedError("crash", f"loading it ended a process with {name}; its file is damaged, log the model again")
    try:
        refused = str(json.loads(done.stdout.splitlines()[-1])["refused"])
    except (ValueError, IndexError, KeyError, TypeError):
        refused = f"the process that tried it ended with status {done.returncode}; log the model again"
    if refused:
        raise RefusedError("load", refused)


def compare(served: Model, candidate: Model) -> None:
    """Check that the clients of the served model can use the candidate.

    Raises:
        RefusedError: It rejects requests that are valid now, or predicts something different.
    """
    if found := "; ".join(model_differences(served, candidate)):
        remedy = "train a compatible model, or install it as a release of its own"
        raise RefusedError("interface", f"its clients would break: {found}; {remedy}")
