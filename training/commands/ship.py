"""The command `ship`: turn the segments of a pod's inference log into Parquet files, until SIGTERM.

The chart runs it in a container of the service's pod, which ends after the service. A place that is unreachable never
ends it, because a pod is ready only while all of its containers run: it tries again, and the segments wait.
"""

import logging
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from app.monitoring.segments import closed
from training.data.log_store import LogStore
from training.errors import InputError, TrainingError
from training.shipping.options import LogOptions
from training.shipping.ship import expire, ship, take_open

EXPIRY_SECONDS = 3600.0
MOST_PAUSE_SECONDS = 60.0  # after a failure

log = logging.getLogger("training")


class Options(LogOptions):
    """Turn the segments of a pod's inference log into Parquet files, until SIGTERM."""

    segments: Path = Field(description="Folder of the segments, MODEL_SERVICE_PAYLOAD_DIR of the service.")
    pod: str = Field(
        default_factory=lambda: os.environ.get("HOSTNAME", "local"),
        pattern=r"^[A-Za-z0-9][-.A-Za-z0-9]*$",
        description="Name of the pod, with which the names of the files begin. It must be unique.",
    )
    poll_seconds: float = Field(default=5, gt=0, description="Seconds between two looks for complete segments.")
    retention_days: int = Field(
        default=0, ge=0, description="Days after which the files of a day are deleted. 0 keeps all."
    )
    end_seconds: float = Field(
        default=25, ge=0, description="Seconds after SIGTERM for the last segments, if the place is unreachable."
    )
    take_open: bool = Field(
        default=False,
        description="At SIGTERM, also ship segments that are not complete. The service must have ended before.",
    )
    once: bool = Field(default=False, description="Ship the complete segments and end.")


def run(options: Options) -> dict[str, Any]:
    """Ship segments until SIGTERM, and return how many were shipped.

    Raises:
        InputError: The folder does not exist, or the address of the log is not valid.
        TrainingError: The last segments could not be shipped.
    """
    if not options.segments.is_dir():
        raise InputError(f"--segments (TRAINING_SEGMENTS): {options.segments} is not a folder.")
    pa.set_cpu_count(1)  # each thread would have its own memory
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    if options.once:
        stop.set()
    store = LogStore(options.log_uri)
    shipped, expired, pause, said = 0, -EXPIRY_SECONDS, options.poll_seconds, ""
    while not stop.is_set():
        try:
            shipped += ship(options.segments, store, options.pod)
            if options.retention_days and time.monotonic() - expired > EXPIRY_SECONDS:
                expired = time.monotonic()
                log.info(
                    "%d files were older than %d days", expire(store, options.retention_days), options.retention_days
                )
            pause, said = options.poll_seconds, ""
        except TrainingError as error:
            if str(error) != said:
                log.warning("%s The segments wait.", error)
            said = str(error)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)
        stop.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the calls of many pods
    shipped += _last(options, store)
    return {"log": store.uri, "segments": shipped}


def _last(options: Options, store: LogStore) -> int:
    """Ship what is left, and try again for some time."""
    if options.take_open:
        take_open(options.segments)
    deadline = time.monotonic() + options.end_seconds
    while True:
        try:
            return ship(options.segments, store, options.pod)
        except TrainingError as error:
            if time.monotonic() >= deadline:
                left = sum(path.stat().st_size for path in closed(options.segments))
                raise type(error)(f"{error} {left} bytes of segments were not shipped.") from None
            time.sleep(1)
