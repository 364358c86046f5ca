"""Warnings about the data that a training logs, kept for the report of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 1000


class _Collector(logging.Handler):
    """Keep the sentences of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the sentence of a warning."""
        if len(self.sentences) < _MOST:
            self.sentences.append(record.getMessage())


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list to which each warning of the body is added."""
    collector, log = _Collector(), logging.getLogger("training")
    log.addHandler(collector)
    try:
        yield collector.sentences
    finally:
        log.removeHandler(collector)
