"""Results in the logs of pods."""

import json
from typing import Any


def result(log: str) -> dict[str, Any]:
    """Return the last JSON object of a log, which a command prints as its result; standard error may follow it."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    assert lines, f"no JSON object in the log:\n{log}"
    found: dict[str, Any] = json.loads(lines[-1])
    return found
