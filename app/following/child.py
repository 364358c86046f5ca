"""A process that loads a model in place of the service: damaged files can end a process.

It reads a JSON document from standard input and prints one: `{"refused": "<cause and remedy>"}`, with "" for a model
that was loaded and has predicted its input example. It has no credentials, less priority than the service, and limits.
"""

import json
import os
import resource
import sys
from pathlib import Path

from app.errors import LoadError
from app.model import xgboost
from app.model.files import Provenance

CPU_SECONDS = 60
NICENESS = 10


def _limit(bytes_left: int) -> None:
    """Limit this process, so that it fails instead of taking memory or CPU from the service.

    Args:
        bytes_left: Memory that it may use in addition to what it has now; 0: without limit.
    """
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if bytes_left:
        most = int(_status("VmData")) * 1024 + bytes_left
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _status(field: str) -> str:
    """Return the number of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def main() -> int:
    """Load the model, and print why it is refused, or ""."""
    given = json.load(sys.stdin)
    _limit(given["bytes_left"])
    refused = ""
    try:
        xgboost.load(
            Path(given["folder"]),
            Provenance(**given["provenance"]),
            compatibility=given["compatibility"],
            categories={name: tuple(values) for name, values in given["categories"].items()},
            unknown_category=given["unknown_category"],
        )
    except LoadError as error:
        refused = str(error)
    except Exception as error:
        refused = f"unexpected {type(error).__name__} while it was loaded; log the model again"
    sys.stdout.write(json.dumps({"refused": refused}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
