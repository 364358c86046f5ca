"""Modules of Go, fetched by its own client."""

import functools
import json
import subprocess
import tempfile
from pathlib import Path

from tools.charts import program


@functools.cache
def module(name: str) -> Path:
    """Return the folder of a Go module, `<path>@<version>`, which Go fetches when its cache lacks it.

    Raises:
        RuntimeError: Go cannot fetch it; the text is Go's.
    """
    command = [program("go"), "mod", "download", "-json", name]
    with tempfile.TemporaryDirectory() as outside_any_module:
        finished = subprocess.run(
            command, cwd=outside_any_module, capture_output=True, text=True, timeout=300, check=False
        )
    if finished.returncode:
        raise RuntimeError(f"{name} cannot be fetched: {finished.stdout}{finished.stderr}")
    return Path(json.loads(finished.stdout)["Dir"])
