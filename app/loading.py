"""Attempts to load a model: they are repeated until one succeeds, the deadline passes or the process ends."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import LoadError
from app.settings import Settings

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 10.0  # short, so that a pod is ready soon after MLflow is back

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Times:
    """Times of one loading, by time.monotonic(), in seconds.

    Args:
        started: Start of the first attempt.
        patient_until: From then on, a copy of an earlier rollout is served if MLflow does not respond.
        deadline: End of the last attempt.
    """

    started: float
    patient_until: float
    deadline: float


def keep_trying[T](
    settings: Settings, attempt: Callable[[Times], T], note: Callable[[str], None], stopping: threading.Event
) -> T | None:
    """Return the result of the first attempt that succeeds, or None if the process is ending.

    Args:
        settings: Settings of the service.
        attempt: Raises LoadError if it fails.
        note: Called with the problem after each failed attempt.
        stopping: Set when the process is ending.

    Raises:
        LoadError: The last attempt failed, or a further one cannot succeed.
    """
    where = {"tracking_address": address} if (address := settings.source_address) else {}
    log.info("loading", extra={"uri": settings.model_uri, "most_seconds": settings.load_timeout_seconds, **where})
    started = time.monotonic()
    times = Times(started, started + settings.peers_patience_seconds, started + settings.load_timeout_seconds)
    wait = FIRST_WAIT_SECONDS
    count = 0
    while not stopping.is_set():
        count += 1
        try:
            return attempt(times)
        except LoadError as error:
            problem = error
        except Exception as error:
            log.error("unexpected failure while loading", exc_info=True)
            # Not retryable: it is a defect of the service or of the model, and neither changes by itself.
            problem = LoadError(f"unexpected {type(error).__name__}", "see the log")
        sentence = describe(settings, problem)
        note(sentence)
        left = times.deadline - time.monotonic()
        if not problem.retryable or left <= FIRST_WAIT_SECONDS:
            log.error(sentence)
            leave_message(settings.termination_message_path, sentence)
            raise problem
        pause = min(wait, left - FIRST_WAIT_SECONDS / 2)  # leaves the last attempt time for a response
        if (patience := times.patient_until - time.monotonic()) > 0:
            pause = min(pause, patience)  # the next attempt may take a copy
        extra = {"attempt": count, "retry_in_seconds": round(pause, 1), "seconds_left": round(left)}
        log.warning(sentence, extra=extra)
        stopping.wait(pause)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
    return None


def describe(settings: Settings, error: LoadError) -> str:
    """Return the sentence that tells an operator why the model was not loaded."""
    where = f" from {address}" if (address := settings.source_address) else ""
    return f"Cannot load {settings.model_uri}{where}: {error}."


def leave_message(path: Path, sentence: str) -> None:
    """Write the sentence to the file that the kubelet reads; outside Kubernetes the folder may not exist."""
    with suppress(OSError):
        path.write_text(sentence + "\n", encoding="utf-8")
