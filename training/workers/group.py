"""The workers that train one model together, connected by XGBoost's collective.

Kubeflow Trainer, XGBoost's documentation and the chart's Job set the same variables: DMLC_NUM_WORKER, DMLC_TASK_ID,
DMLC_TRACKER_URI and DMLC_TRACKER_PORT. Without them there is one worker, and this module has no effect.

Source: https://xgboost.readthedocs.io/en/release_3.4.0/tutorials/kubernetes.html
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xgboost import collective
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

from training.errors import InputError, TrainingError

START_SECONDS = 600  # until all workers have pulled their images and read their data
_GOODBYE_SECONDS = 30
_TRIES = 3  # per address: a restarted pod has a new one, and XGBoost waits longer after each try
ANSWER_SECONDS = 300  # without an answer, after which a worker counts as lost

log = logging.getLogger(__name__)


class GroupError(TrainingError):
    """Another worker was lost or did not start. A restart of all workers continues from the last checkpoint."""


@dataclass(frozen=True)
class Group:
    """The number of this worker, counted from 0, and the number of workers."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this worker is the one that uses MLflow."""
        return self.rank == 0

    def joined(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers of all workers, shape (rows, …), in the order of the workers."""
        if self.size == 1:
            return numbers
        counts = np.zeros(self.size, dtype=np.int64)
        counts[self.rank] = len(numbers)
        counts = collective.allreduce(counts, collective.Op.SUM)
        start = int(counts[: self.rank].sum())
        everything = np.zeros((int(counts.sum()), *numbers.shape[1:]), dtype=numbers.dtype)
        everything[start : start + len(numbers)] = numbers
        return np.asarray(collective.allreduce(everything, collective.Op.SUM)).reshape(everything.shape)

    def summed(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of the numbers of all workers, which have the same shape."""
        return numbers if self.size == 1 else np.asarray(collective.allreduce(numbers, collective.Op.SUM))

    def everyones(self, mine: Any) -> list[Any]:
        """Return the JSON values of all workers, in the order of the workers."""
        text = (json.dumps(mine) + "\n").encode()
        return [json.loads(line) for line in self.joined(np.frombuffer(text, dtype=np.uint8)).tobytes().splitlines()]

    def agreed[Made](self, step: Callable[[], Made]) -> Made:
        """Return the result of a step without exchange, if each worker has one.

        Raises:
            InputError: The step failed on a worker. All workers end with its message and exit code, because a restart
                of the others cannot help.
        """
        made: list[Made] = []
        problem = ""
        try:
            made.append(step())
        except InputError as error:
            if self.size == 1:
                raise
            problem = str(error)
        if self.size > 1 and (problems := [each for each in self.everyones(problem) if each]):
            raise InputError(problems[0]) from None
        return made[0]

    def from_first(self, content: bytes | None) -> bytes | None:
        """Return the content of the first worker. The content of the other workers is ignored."""
        if self.size == 1:
            return content
        mine = np.frombuffer(content or b"", dtype=np.uint8) if self.first else np.zeros(0, dtype=np.uint8)
        return self.joined(mine).tobytes() or None


ALONE = Group()


def announced() -> Group:
    """Return the group of the environment, without connecting to it."""
    size = _number("DMLC_NUM_WORKER", 1)
    return Group(_number("DMLC_TASK_ID"), size) if size > 1 else Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Join the group of the environment. The first worker runs the tracker.

    Raises:
        InputError: The variables are incomplete.
        GroupError: A worker did not start, or was lost.
    """
    group = announced()
    if group.size == 1:
        yield group
        return
    size, host, port = group.size, _text("DMLC_TRACKER_URI"), _number("DMLC_TRACKER_PORT")
    tracker = _tracker(size, port) if group.first else None
    refused: InputError | None = None
    try:
        with ExitStack() as communicator:
            log.info("worker %d of %d: waiting for the others at %s:%d", group.rank, size, host, port)
            _enter(communicator, group, host, port)
            log.info("worker %d of %d: all workers are connected", group.rank, size)
            try:
                yield group
            except InputError as error:  # of all workers, which disconnect before they end with it
                refused = error
        if tracker:
            tracker.wait_for(_GOODBYE_SECONDS)
    except XGBoostError as error:
        if refused:
            raise refused from None
        if "/collective/" not in str(error):
            raise
        raise GroupError(
            f"Worker {group.rank} of {size} lost another one, whose own log contains the cause ({_first_line(error)}): "
            "restart all workers; they continue from the last checkpoint."
        ) from None
    finally:
        if tracker:
            with suppress(XGBoostError):  # a lost worker did not disconnect
                tracker.free()
    if refused:
        raise refused


def _enter(communicator: ExitStack, group: Group, host: str, port: int) -> None:
    """Join the other workers. Retry while the first worker is stopping or has not started.

    The replacement of a lost worker may connect to the first worker before that one has noticed the loss and ends.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        # Also for the first worker: the tracker passes on the address of each worker, which must not be loopback.
        arguments: dict[str, int | str] = {
            "dmlc_communicator": "rabit",
            "dmlc_tracker_uri": _address(host),
            "dmlc_tracker_port": port,
            "dmlc_task_id": f"{group.rank:05d}",  # the tracker numbers the workers in the order of these strings
            "dmlc_retry": _TRIES,
            "dmlc_timeout": ANSWER_SECONDS,
        }
        try:
            communicator.enter_context(collective.CommunicatorContext(**arguments))
            return
        except XGBoostError as error:
            if group.first or time.monotonic() > deadline:
                raise
            log.info(
                "worker %d of %d: the first worker is unreachable (%s)", group.rank, group.size, _first_line(error)
            )
            time.sleep(1)


def _tracker(size: int, port: int) -> RabitTracker:
    """Start the tracker, which connects the workers."""
    tracker = RabitTracker(n_workers=size, host_ip="0.0.0.0", port=port, sortby="task", timeout=START_SECONDS)  # noqa: S104
    tracker.start()
    return tracker


def _first_line(error: XGBoostError) -> str:
    """Return the message of XGBoost without its C++ stack trace."""
    return " ".join(str(error).partition("Stack trace")[0].split())[:500]


def _address(host: str) -> str:
    """Wait until the name of the first worker resolves, because its pod may not have started."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() > deadline:
                raise GroupError(
                    f"The name of the first worker, {host}, does not resolve after {START_SECONDS} s ({error})."
                ) from None
            time.sleep(1)


def _text(name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise InputError(f"{name} is missing: several workers need the four DMLC_ variables.")
    return value


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "") if default is not None else _text(name)
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise InputError(f"{name} must be a whole number.")
    return int(text)
