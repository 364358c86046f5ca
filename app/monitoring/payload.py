"""Payload log: the rows and predictions of a sample of the requests, off by default.

The event loop draws the sample. A separate thread redacts and writes it, because standard output may block. Requests
that arrive faster than the thread writes are left out and counted.
"""

import contextvars
import json
import logging
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.errors import LoadError
from app.model.files import Provenance
from app.settings import Settings

REDACTED = "REDACTED"
LINE_BYTES = 65_536  # limit for columns, rows and predictions: log collectors split longer lines
WAITING = 64
CELLS = 4_000  # limit per waiting request, which bounds the memory that it holds

log = logging.getLogger(__name__)


class PayloadLog:
    """The payload log of one model.

    Args:
        settings: Sample ratio and redacted columns.
        model: Name and version of the model.
        columns: Column names of the model, in the order of its signature.

    Raises:
        LoadError: A redacted column is not in the model's signature.
    """

    def __init__(self, settings: Settings, model: Provenance, columns: Sequence[str]) -> None:
        if unknown := [name for name in settings.payload_redact if name not in columns]:
            raise LoadError(
                f"the payload log is set to redact {', '.join(map(repr, unknown))}, but the model has no such column",
                "correct MODEL_SERVICE_PAYLOAD_REDACT (logging.payload.redact in the chart)",
            )
        self._ratio = settings.payload_sample_ratio
        self._redact = frozenset(settings.payload_redact)
        self._model = {"model": model.name, "version": model.version}
        self._columns = list(columns)
        self._most_rows = max(1, CELLS // len(columns))
        self._thread = ThreadPoolExecutor(1, "payload-log")
        self._lock = threading.Lock()
        self._waiting = self._left_out = 0
        log.setLevel(logging.INFO)  # independent of log_level, because the payload log has its own setting

    def offer(
        self, payload: Callable[[], dict[str, Any]], predictions: list[Any], more: Callable[[int], dict[str, list[Any]]]
    ) -> None:
        """Log this request if it is sampled. Accepts only valid payloads; never blocks, and is thread-safe.

        Args:
            payload: Returns the rows of the request.
            predictions: Predictions of all rows.
            more: Returns further fields, each with a list of one value for each of the first rows, in the thread that
                logs. Its argument is the number of these rows.
        """
        if random.random() >= self._ratio:  # noqa: S311 - sampling needs no cryptography
            return
        with self._lock:
            if self._waiting >= WAITING:
                self._left_out += 1
                return
            self._waiting += 1
            left_out, self._left_out = self._left_out, 0
        body = payload()
        rows = body.get("instances") or body["data"]
        facts = self._model | {"rows": len(rows)} | ({"left_out": left_out} if left_out else {})
        most = self._most_rows
        names = body.get("columns", self._columns)
        run = contextvars.copy_context().run
        self._thread.submit(run, self._write, facts, names, rows[:most], predictions[:most], more)

    def _write(
        self,
        facts: dict[str, Any],
        columns: list[str],
        rows: list[Any],
        predictions: list[Any],
        more: Callable[[int], dict[str, list[Any]]],
    ) -> None:
        try:
            hidden = [name in self._redact for name in columns]
            further = more(len(rows))
            data: list[Any] = []
            size = len(json.dumps(columns))
            for row, *predicted in zip(rows, predictions, *further.values(), strict=True):
                cells = [row.get(name) for name in columns] if isinstance(row, dict) else row
                shown = [REDACTED if hide else cell for hide, cell in zip(hidden, cells, strict=True)]
                size += len(json.dumps([shown, *predicted]))
                if size > LINE_BYTES:
                    break
                data.append(shown)
            found = {"columns": columns, "data": data, "predictions": predictions[: len(data)]}
            found |= {name: values[: len(data)] for name, values in further.items()}
            log.info("prediction", extra=facts | found)
        except Exception:
            log.error("a payload could not be logged", exc_info=True)
        finally:
            with self._lock:
                self._waiting -= 1
