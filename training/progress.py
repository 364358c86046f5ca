"""Progress of long tasks: a bar on a terminal, otherwise a log line every 30 seconds."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xgboost as xgb
from tqdm import tqdm

SECONDS_PER_LINE = 30.0

log = logging.getLogger("training.progress")


class Progress:
    """The progress of one task."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._next_line = time.monotonic() + SECONDS_PER_LINE
        # tqdm hides the bar if standard error is not a terminal.
        self._bar: Any = tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "B", disable=None, leave=False)

    def advance(self, by: int = 1, note: str = "") -> None:
        """Add to the finished units."""
        self._done += by
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(by)
        if self._bar.disable and time.monotonic() >= self._next_line:
            of = f" of {self._total}" if self._total else ""
            log.info("%s: %d%s %s %s", self._what, self._done, of, self._unit, note)
            self._next_line = time.monotonic() + SECONDS_PER_LINE

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


@contextmanager
def bar(what: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Yield the progress of a task of `total` units; None if the number is unknown."""
    progress = Progress(what, total, unit)
    try:
        yield progress
    finally:
        progress.close()
        sys.stderr.flush()


class Rounds(xgb.callback.TrainingCallback):
    """Progress of one training with XGBoost."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
        """Count the round and show the last metric. Return False, so that the training continues."""
        last = [f"{part}-{name} {values[-1]:.5f}" for part, of in evals_log.items() for name, values in of.items()]
        self._progress.advance(note=last[-1] if last else "")
        return False
