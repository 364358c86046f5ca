"""Logging as JSON lines on standard output.

An exception is logged as its type and stack, without its message, which may contain values from a request.
"""

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

from app.context import CALLER, REQUEST_ID, TRACE_ID

_CONTEXT = (REQUEST_ID, CALLER, TRACE_ID)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A formatter that writes each record as one line; `extra` values become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {variable.name: value for variable in _CONTEXT if (value := variable.get())}
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            line["exception"] = kind.__name__
            line["at"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
        return json.dumps(line, default=str)


log = logging.getLogger(__name__)


def configure(level: str) -> None:
    """Send records of all loggers from `level` up, Python warnings and crashes to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Python's own hooks would print the exception's message and a stack of many lines.
    sys.excepthook = lambda *crash: log.critical("the process crashed", exc_info=crash)
    threading.excepthook = lambda crash: log.critical("a thread crashed", exc_info=crash.exc_value)
