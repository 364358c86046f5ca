"""The comparison of a challenger with the served model, on the rows of live requests.

Requests only copy their rows and predictions to a queue. A thread of lower priority predicts them in blocks, which
costs a fraction of predicting each request on its own. The challenger's predictions change no response.
"""

import logging
import os
import random
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.booster import BoosterError, Matrix
from app.model.output import Challenged, Output
from app.model.translation import Translation
from app.model.xgboost import BoosterModel
from app.monitoring.challenger import ChallengerMetrics
from app.monitoring.feedback import score_edges
from app.settings import Settings

BLOCK_ROWS = 256  # larger blocks are not faster per row
TURN_SECONDS = 1.0  # that rows wait for a block to be complete
SLOW_SECONDS, SLOW_RATIO = 0.005, 4.0  # a slow call takes longer, also than this multiple of the served model's
MOST_FAILURES = 5  # calls in a row, after which a challenger is predicted no more
NICENESS = 10  # of the thread, so that requests come first when CPU is scarce

log = logging.getLogger(__name__)


class Comparison:
    """A challenger, and the rows on which it is to be compared with the served model. Thread-safe.

    Args:
        settings: Size of the queue, and the tolerance for numbers.
        champion: Served model.
        challenger: Model with the same kind of predictions.

    Raises:
        LoadError: The champion's rows do not contain what the challenger needs.
    """

    def __init__(self, settings: Settings, champion: BoosterModel, challenger: BoosterModel) -> None:
        self.champion, self.challenger = champion, challenger
        self._translate = Translation(champion, challenger)
        self._most_rows, self._tolerance = settings.challenger_queue_rows, settings.challenger_tolerance
        self._spread = _spread(champion)
        self._metrics = ChallengerMetrics(champion, challenger)
        self._waiting = 0  # rows
        self._rows, self._output = bytearray(), bytearray()
        self._lock = threading.Lock()
        self._edges = score_edges(challenger)
        self._failures = self._slow = 0  # calls in a row

    @property
    def failing(self) -> bool:
        """Whether the challenger has failed, or delayed requests, so often in a row that it is predicted no more."""
        return max(self._failures, self._slow) >= MOST_FAILURES

    @property
    def slow(self) -> bool:
        """Whether it has delayed requests."""
        return self._slow >= MOST_FAILURES

    def challenged(self, rows: Matrix, seconds: float) -> Challenged | None:
        """Return the challenger's numbers for the rows of a request, or None if it fails.

        Args:
            rows: Inputs, shape (rows, columns).
            seconds: Time that the served model took for them.
        """
        begin = time.perf_counter()
        try:
            numbers = self.challenger.numbers(self._translate(rows))
        except BoosterError:
            return None  # the comparison in the background counts it
        taken = time.perf_counter() - begin
        self._slow = self._slow + 1 if taken > SLOW_SECONDS and taken > SLOW_RATIO * seconds else 0
        return Challenged(self.challenger.provenance.version, self._edges, numbers)

    def values(self, rows: Matrix) -> list[Any]:
        """Return one JSON value per row, None where the challenger fails."""
        try:
            numbers = self.challenger.numbers(self._translate(rows))
        except BoosterError:
            return [None] * len(rows)
        finite = np.isfinite(numbers).all(axis=1).tolist()
        found = self.champion.output.values(np.nan_to_num(numbers))
        return [value if valid else None for value, valid in zip(found, finite, strict=True)]

    def add(self, rows: Matrix, output: Matrix) -> bool:
        """Take rows, shape (rows, columns), and the champion's numbers for them; return whether a block is complete."""
        with self._lock:
            if self._waiting + len(rows) > self._most_rows:
                self._metrics.dropped.inc(len(rows))
                return False
            self._waiting += len(rows)
            self._rows += rows.tobytes()
            self._output += output.tobytes()
            return self._waiting >= BLOCK_ROWS

    def work(self) -> None:
        """Compare the rows that are waiting."""
        with self._lock:
            count, taken = self._waiting, (self._rows, self._output)
            self._waiting, self._rows, self._output = 0, bytearray(), bytearray()
        if not count:
            return
        rows, output = (np.frombuffer(each, dtype=np.float32).reshape(count, -1) for each in taken)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._compare(rows[block], output[block])

    def _compare(self, rows: Matrix, output: Matrix) -> None:
        if self.failing:
            return
        begin = time.perf_counter()
        try:
            answers = self.challenger.numbers(self._translate(rows))
        except BoosterError as error:
            log.warning("the challenger failed: %s", error)
            good = np.zeros(len(rows), dtype=bool)
        else:
            good = np.isfinite(answers).all(axis=1)
        self._metrics.seconds(time.perf_counter() - begin)
        bad = len(rows) - int(good.sum())
        self._metrics.errors.inc(bad)
        self._failures = self._failures + 1 if bad == len(rows) else 0
        if bad == len(rows):
            return
        difference, disagree = _compared(self.champion.output, output[good], answers[good], self._spread)
        if disagree is None:
            disagree = difference > self._tolerance
        self._metrics.rows.inc(len(difference))
        self._metrics.disagreements.inc(int(disagree.sum()))
        self._metrics.difference(difference.tolist())


class Shadow:
    """The challenger of the service, if one is loaded, and the thread that predicts with it.

    Args:
        settings: Share of the calls that are sampled.
        stopping: Set when the process is ending.
    """

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._ratio = settings.challenger_sample_ratio
        self._labels = settings.challenger_labels
        self._stopping = stopping
        self._full = threading.Event()
        self.comparison: Comparison | None = None

    def offer(self, model: BoosterModel, rows: Matrix, output: Matrix, seconds: float) -> Challenged | None:
        """Compare the challenger on these rows later, if they are sampled. Never blocks and never raises.

        Args:
            model: Model that predicted them.
            rows: Inputs, shape (rows, columns).
            output: Its numbers, shape (rows, outputs).
            seconds: Time that it took.

        Returns:
            The challenger's numbers, if labels are to be scored for it too.
        """
        comparison = self.comparison
        if comparison is None or comparison.champion is not model or comparison.failing:
            return None
        if random.random() >= self._ratio:  # noqa: S311 - sampling needs no cryptography
            return None
        if comparison.add(rows, output):
            self._full.set()
        return comparison.challenged(rows, seconds) if self._labels else None

    def run(self) -> None:
        """Compare until the process ends."""
        with suppress(OSError):  # only Linux has priorities per thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stopping.is_set():
            self._full.wait(TURN_SECONDS)
            self._full.clear()
            if comparison := self.comparison:
                try:
                    comparison.work()
                except Exception:  # a defect of the comparison must not end it
                    log.error("unexpected failure while the challenger was compared", exc_info=True)


def _compared(
    output: Output, old: Matrix, new: Matrix, spread: NDArray[np.float32]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_] | None]:
    """Return the difference of each row and, for classes, whether the rows have different ones."""
    if output.form == "label":
        differ = old[:, 0] != new[:, 0]
        return differ.astype(np.float32), differ
    difference = np.abs(new - old).max(axis=1)
    if output.form == "probabilities":
        return difference, _classes(old) != _classes(new)
    return (np.abs(new - old) / spread).max(axis=1), None


def _classes(probabilities: Matrix) -> NDArray[Any]:
    """Return the index of the class that each row predicts, as Output.labels does."""
    if probabilities.shape[1] == 1:
        return probabilities[:, 0] > 1 - probabilities[:, 0]
    return probabilities.argmax(axis=1)


def _spread(model: BoosterModel) -> NDArray[np.float32]:
    """Return the unit of each number that a model predicts: the distance between the outer edges of its reference bins.

    They contain the middle 80 % of the reference. Without a reference it is 1, the unit of the prediction itself.
    """
    profile = model.contract.profile if model.contract else None
    edges = [each.edges for each in profile.predictions] if profile else []
    spreads = [each[-1] - each[0] if len(each) > 1 else 1.0 for each in edges]
    fits = len(spreads) == model.output.width
    return np.array(spreads if fits else [1.0] * model.output.width, dtype=np.float32)
