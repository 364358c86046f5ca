"""The model's worker as the service sees it: concurrent requests are combined, and a lost worker is replaced.

One thread owns the connection. While the worker predicts, further requests wait, and the next call takes them all. So a
model needs not be thread-safe, and a call costs the same for one request as for twenty.
"""

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.errors import InvalidInputError, LoadError, ModelUnavailableError, ProblemError, TimedOutError
from app.model.parameters import NO_PARAMETERS, Parameters
from app.model.pyfunc_inputs import Inputs
from app.model.pyfunc_outputs import Table, table_of
from app.model.signature import Cells
from app.model.worker_connection import Connection, LostError, ModelError, load

PING_SECONDS = 5.0  # between two looks at an idle worker, for its memory
PAUSE_SECONDS = 0.5  # between two attempts to connect to a new worker
RELOAD_SECONDS = 600.0  # limit for a worker that starts again

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """Predictions for one request, and the duration of the call that made them, in seconds."""

    table: Table
    seconds: float


@dataclass(frozen=True)
class WorkerOptions:
    """How the service uses the worker.

    Args:
        path: Path of the Unix socket.
        call_seconds: Time limit of a call, after which the model's process is ended.
        most_rows: Maximum number of rows of several requests in one call.
    """

    path: Path
    call_seconds: float = 30.0
    most_rows: int = 256


@dataclass
class _Job:
    rows: Cells
    parameters: Parameters
    future: Future[Answer] = field(default_factory=Future)


class Worker:
    """The worker of one model.

    Args:
        options: Where it is, and its limits.
        inputs: Converts rows into a request.
        example: Rows with which a new worker is warmed up.
        accept: Called with the facts of a new worker before it loads the model; raises LoadError to reject it.
        defaults: Parameters of the warm-up.
    """

    def __init__(
        self,
        options: WorkerOptions,
        inputs: Inputs,
        example: Cells,
        accept: Callable[[Mapping[str, Any]], None],
        defaults: Parameters = NO_PARAMETERS,
    ) -> None:
        self.problem = "the model's process has not started yet"
        self.memory = 0  # bytes, as last reported
        self.observe: Callable[[float], None] = lambda _: None  # called with the duration of each call
        self.lost: Callable[[], None] = lambda: None  # called when the worker was lost
        self._options = options
        self._inputs = inputs
        self._example = _Job(example, defaults)
        self._accept = accept
        self._connection: Connection | None = None
        self._jobs: deque[_Job] = deque()
        self._poked, self._poker = socket.socketpair()
        self._poker.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="worker-calls", daemon=True)

    def start(self, deadline: float) -> Table:
        """Connect, load the model, predict the example, and return the predictions.

        Raises:
            LoadError: The worker does not start, or the model cannot be loaded.
            InvalidInputError: MLflow rejects the example.
            ModelError: The model fails on its example.
        """
        try:
            table = self._open(deadline)
        except LostError as error:
            raise LoadError(str(error), "see the log of the container model", retryable=True) from None
        self._thread.start()
        return table

    def submit(self, rows: Cells, parameters: Parameters) -> Future[Answer]:
        """Return a future with the predictions of these rows.

        Raises:
            ModelUnavailableError: The worker is restarting.
        """
        if self.problem:
            raise ModelUnavailableError(self.problem)
        job = _Job(rows, parameters)
        self._jobs.append(job)
        self._poke()
        if self.problem:  # lost meanwhile; the thread may already have emptied the queue
            self._refuse()
        return job.future

    def close(self) -> None:
        """Stop using the worker."""
        self._closed = True
        if self._thread.is_alive():
            self._poke()
        else:
            self._release()

    def _release(self) -> None:
        if self._connection:
            self._connection.close()
        self._poked.close()
        self._poker.close()

    def _poke(self) -> None:
        with suppress(OSError):  # full: the thread wakes up anyway
            self._poker.send(b"\0")

    def _run(self) -> None:
        while not self._closed:
            connection = self._connection
            if connection is None:
                self._reopen()
                continue
            both: list[Connection | socket.socket] = [connection, self._poked]
            ready, _, _ = select.select(both, [], [], 0 if self._jobs else PING_SECONDS)
            if self._poked in ready:
                self._poked.recv(4096)
            try:
                if connection in ready:
                    raise LostError("the model's process ended")
                if batch := self._batch():
                    self._predict(batch)
                elif not ready:
                    self._call({"do": "ping"}, ())
            except LostError as error:
                self._lost(str(error))
        self._release()

    def _batch(self) -> list[_Job]:
        """Take the waiting requests that fit into one call; those with other parameters wait."""
        batch: list[_Job] = []
        count = 0
        while self._jobs:
            job = self._jobs[0]
            if batch and (count + len(job.rows) > self._options.most_rows or job.parameters != batch[0].parameters):
                break
            self._jobs.popleft()
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
                count += len(job.rows)
        return batch

    def _predict(self, batch: list[_Job]) -> None:
        """Predict the requests together; if that fails, each one alone, so that only those fail which cause it.

        Raises:
            LostError: The worker was lost. All requests have their error.
        """
        begin = time.perf_counter()
        try:
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([job.rows for job in batch])
            table = self._table(rows, batch[0].parameters)
        except LostError as error:
            for job in batch:
                job.future.set_exception(_loss(error, self._options.call_seconds))
            raise
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for place, job in enumerate(batch):
                try:
                    self._predict([job])
                except LostError as loss:
                    for rest in batch[place + 1 :]:
                        rest.future.set_exception(_loss(loss, self._options.call_seconds))
                    raise
            return
        seconds = time.perf_counter() - begin
        end = 0
        for job in batch:
            start, end = end, end + len(job.rows)
            job.future.set_result(Answer(Table(table.names, table.values[start:end]), seconds))

    def _table(self, rows: Cells, parameters: Parameters) -> Table:
        """Return the predictions of one call.

        Raises:
            LostError: The worker was lost.
            InvalidInputError: MLflow rejects the rows.
            ModelError: The model failed, or its output is unusable.
        """
        header, blocks = self._call(*self._inputs.request(rows, parameters))
        failure, why = header.get("failure"), str(header.get("why", ""))
        if failure == "input":
            raise InvalidInputError("The contents of a list or an object in the rows do not fit the model's signature.")
        if failure:
            raise ModelError(f"{why} in the model's process" if failure == "model" else why)
        try:
            return table_of(blocks, len(rows))
        except ValueError as error:
            raise ModelError(str(error)) from None

    def _call(self, header: dict[str, Any], blocks: tuple[Any, ...]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        if self._connection is None:
            raise LostError("the model's process ended")
        begin = time.perf_counter()
        found, answer = self._connection.call(header, blocks, self._options.call_seconds)
        self.memory = int(found.get("memory", 0))
        if header["do"] == "predict":
            self.observe(time.perf_counter() - begin)
        return found, answer

    def _open(self, deadline: float) -> Table:
        """Connect to a new worker, load the model in it, and predict the example."""
        connection = Connection(self._options.path, deadline)
        try:
            self._accept(connection.facts)
            load(connection, deadline)
            self._connection = connection
            table = self._table(self._example.rows, self._example.parameters)
        except BaseException:
            self._connection = None
            connection.close()
            raise
        facts = connection.facts
        log.info(
            "worker ready",
            extra={"pid": facts.get("process"), "python": facts.get("python"), "mlflow": facts.get("mlflow")},
        )
        self.problem = ""
        return table

    def _reopen(self) -> None:
        try:
            self._open(time.monotonic() + RELOAD_SECONDS)
        except (LostError, LoadError, ModelError, ProblemError) as error:
            self.problem = f"the model's process does not restart: {error}"
            log.warning(self.problem)
            time.sleep(PAUSE_SECONDS)
        self._refuse()

    def _lost(self, why: str) -> None:
        self.problem = f"the model's process restarts, because {why}"
        self.lost()
        log.error("worker lost: %s", why)
        if self._connection:
            self._connection.close()
            self._connection = None
        self._refuse()

    def _refuse(self) -> None:
        """Fail the waiting requests, because no worker runs."""
        while self.problem and self._jobs:
            with suppress(IndexError):
                job = self._jobs.popleft()
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(ModelUnavailableError(self.problem))


def _loss(error: LostError, seconds: float) -> ProblemError:
    """Return the error for a request whose call lost the worker."""
    if error.slow:
        return TimedOutError(f"The model took longer than {seconds:g} s; send fewer rows.")
    return ModelUnavailableError(str(error))
