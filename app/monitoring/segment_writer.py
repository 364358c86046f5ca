"""The writer of the inference log's segments: a thread with a bounded queue and a bounded folder.

The event loop only queues a record. The thread writes one block with all records since the last one, which costs a
fraction of writing each. No request waits for the disk: a full queue or folder drops records, and they are counted.
"""

import itertools
import logging
import math
import os
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import Counter, Gauge

from app.monitoring import segments
from app.monitoring.segments import Block, LoggedLabel, LoggedLabels, LoggedModel
from app.settings import Settings

QUEUE_BYTES = 16 << 20  # of records in memory; beyond it, they are dropped
WAKE_BYTES = 1 << 18  # after which the thread writes before its time: longer blocks would delay requests
RECORD_BYTES = 300  # of a record in addition to its rows
REASONS = ("queue_full", "folder_full", "failed")

LOGGED = Counter(
    "model_inference_log_records_total", "Requests and labels written to the inference log.", ["model_name", "kind"]
)
DROPPED = Counter(
    "model_inference_log_dropped_total",
    "Requests and labels that the inference log has dropped.",
    ["model_name", "reason"],
)
WAITING = Gauge(
    "model_inference_log_waiting_bytes", "Size of the segments that wait for their shipping, in bytes.", ["model_name"]
)
OLDEST = Gauge(
    "model_inference_log_oldest_seconds",
    "Age of the oldest complete segment that waits for its shipping, in seconds; 0 if none waits.",
    ["model_name"],
)

log = logging.getLogger(__name__)


class Source(Protocol):
    """The log of one model, which encodes its own requests."""

    def describe(self, number: int) -> LoggedModel:
        """Return the model, with the number that its blocks have in the segment."""

    def block(self, number: int, kind: bool, batch: "Batch") -> tuple[Block, int]:
        """Return the block of a batch of one kind, and the number of requests that could not be encoded."""


class Batch:
    """Requests that wait to be written, by field, because an object for each would cost more in garbage collection.

    Attributes:
        times, seconds, counts, request_ids, owners, tokens: As in `LoggedPredictions`.
        rows: Rows of each request, or a callable that returns them.
        outputs: Numbers or values of each request.
    """

    __slots__ = ("counts", "outputs", "owners", "request_ids", "rows", "seconds", "times", "tokens")

    def __init__(self) -> None:
        self.times, self.seconds, self.counts = array("d"), array("f"), array("I")
        self.request_ids: list[str] = []
        self.owners: list[str] = []
        self.tokens: list[str] = []
        self.rows: list[Any] = []
        self.outputs: list[Any] = []

    def __len__(self) -> int:
        return len(self.rows)


class SegmentWriter:
    """The only writer of a folder of segments. Thread-safe.

    Args:
        folder: The folder, which exists.
        settings: Times and sizes.

    Attributes:
        lock: Protects the batches.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._name = folder, settings.served_name
        self._flush_seconds, self._rotate_seconds = settings.payload_flush_seconds, settings.payload_rotate_seconds
        self._rotate_bytes, self._most_bytes = settings.payload_rotate_bytes, settings.payload_buffer_bytes
        self._process = f"{time.time_ns() // 1_000_000:013d}"
        self._numbers = itertools.count(1)
        self.lock = threading.Lock()
        self._batches: dict[tuple[Source, bool], Batch] = {}
        self._labels: list[LoggedLabel] = []
        self._queued = 0  # bytes
        self._dropped = 0  # by a full queue, since the last flush
        self._wake, self._ended = threading.Event(), threading.Event()
        self._file = -1  # descriptor of the open segment
        self._path = folder
        self._opened = 0.0  # by time.monotonic()
        self._written = 0  # bytes of the open segment
        self._waiting, self._measured = 0, -math.inf  # bytes in the folder, and when they were counted
        self._models: dict[Source, int] = {}  # described in the open segment
        self._failing = False
        for reason in REASONS:  # created now, because rate() does not see the first increase of a new counter
            DROPPED.labels(self._name, reason)
        for kind in ("prediction", "label"):
            LOGGED.labels(self._name, kind)
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Take over the segments that an earlier process has left, and start to write."""
        for left in self._folder.glob(f"*{segments.OPEN}"):
            left.rename(left.with_suffix(segments.CLOSED))
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and complete the open segment."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def batch(self, key: tuple[Source, bool], size: int) -> Batch | None:
        """Return the batch for one more request, or None if the queue is full. The caller holds the lock.

        Args:
            key: Log of the model, and kind of the request.
            size: Size of its rows in memory, in bytes.
        """
        queued = self._queued + size + RECORD_BYTES
        if queued > QUEUE_BYTES:
            self._dropped += 1
            return None
        if queued > WAKE_BYTES >= self._queued:
            self._wake.set()
        self._queued = queued
        found = self._batches.get(key)
        if found is None:
            found = self._batches[key] = Batch()
        return found

    def label(self, label: LoggedLabel) -> None:
        """Queue a label; never blocks."""
        with self.lock:
            if self._queued + RECORD_BYTES > QUEUE_BYTES:
                self._dropped += 1
                return
            self._queued += RECORD_BYTES
            self._labels.append(label)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            self._attempt(self.flush)
        self._attempt(self.flush)  # of what was queued since
        self._attempt(self._complete)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            log.error("the inference log cannot be written", exc_info=True)

    def flush(self) -> None:
        """Write all that waits as blocks, and complete a segment that is old or large."""
        with self.lock:
            batches, self._batches = self._batches, {}
            labels, self._labels = self._labels, []
            dropped, self._dropped = self._dropped, 0
            self._queued = 0
        if dropped:
            DROPPED.labels(self._name, "queue_full").inc(dropped)
        if time.monotonic() - self._measured >= self._flush_seconds:
            self._measure()
        for (source, kind), batch in batches.items():
            self._write("prediction", len(batch), lambda: self._predictions(source, kind, batch))  # noqa: B023
        if labels:
            self._write("label", len(labels), lambda: ([*segments.encoded(LoggedLabels(labels))], 0))
        old = time.monotonic() - self._opened > self._rotate_seconds
        if self._file >= 0 and (old or self._written >= self._rotate_bytes):
            self._complete()

    def _write(self, kind: str, count: int, content_of: Callable[[], tuple[list[bytes], int]]) -> None:
        """Write a block of `count` records. Those that cannot be written are dropped and counted."""
        failed = count
        try:
            content, unusable = content_of()
            size = sum(map(len, content))
            if self._waiting + size > self._most_bytes:
                DROPPED.labels(self._name, "folder_full").inc(count)
                self._complete()  # the description of the model may be in what was not written
                return
            if self._file < 0:
                self._open()
            if os.writev(self._file, content) != size:
                raise OSError("the disk is full")
            self._written += size
            self._waiting += size
            failed = unusable
            LOGGED.labels(self._name, kind).inc(count - failed)
            self._failing = False
        except Exception:
            if not self._failing:  # once, not with every block
                log.error("the inference log cannot be written", exc_info=True)
            self._failing = True
            self._complete()  # what follows a block that is cut off would not be read
        if failed:
            DROPPED.labels(self._name, "failed").inc(failed)

    def _predictions(self, source: Source, kind: bool, batch: Batch) -> tuple[list[bytes], int]:
        content: list[bytes] = []
        if source not in self._models:
            self._models[source] = len(self._models) + 1
            content += segments.encoded(source.describe(self._models[source]))
        block, unusable = source.block(self._models[source], kind, batch)
        return [*content, *segments.encoded(block)], unusable

    def _open(self) -> None:
        self._path = self._folder / f"{self._process}-{next(self._numbers):06d}{segments.OPEN}"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._opened, self._written = time.monotonic(), 0

    def _complete(self) -> None:
        """Complete the open segment, so that it is shipped."""
        self._models = {}
        if self._file < 0:
            return
        os.close(self._file)
        self._file = -1
        with suppress(OSError):  # otherwise the next process takes it over
            self._path.rename(self._path.with_suffix(segments.CLOSED))

    def _measure(self) -> None:
        """Read and export the state of the folder."""
        size, oldest = 0, 0.0
        with suppress(OSError), os.scandir(self._folder) as found:  # the next write reports a fault of the folder
            for each in found:
                with suppress(FileNotFoundError):  # shipped meanwhile
                    facts = each.stat()
                    size += facts.st_size
                    if each.name.endswith(segments.CLOSED):
                        oldest = max(oldest, time.time() - facts.st_mtime)
        WAITING.labels(self._name).set(size)
        OLDEST.labels(self._name).set(oldest)
        self._waiting, self._measured = size, time.monotonic()
