"""Write logs as JSON lines on standard output.

An exception is logged as its type and the places it passed through: its text may hold what a caller sent.
"""

import json
import logging
import sys
import threading
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

# The request this task works for; set by app.front, and by nobody else. Threads get it with the caller's context.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
# The name of the API key it came with; set by app.auth.
CALLER: ContextVar[str] = ContextVar("caller", default="")
# The trace it is part of; set by app.tracing.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")

_CONTEXT = (REQUEST_ID, CALLER, TRACE_ID)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One record, one line; what was given as `extra` becomes a key."""

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
    """Send every logger's records, uvicorn's too, to standard output from `level` on; warnings and crashes as well."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Python itself would print the exception's text and a trace of many lines.
    sys.excepthook = lambda *crash: log.critical("the process ends by a bug", exc_info=crash)
    threading.excepthook = lambda crash: log.critical("a thread ends by a bug", exc_info=crash.exc_value)
