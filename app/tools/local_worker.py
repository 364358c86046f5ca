"""The worker of a model as a process of this machine, for commands that run a model without a pod."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.registry.staged import FOLDER, PROGRAM, WORKER

_END_SECONDS = 10
# The model's code gets no credentials: only what a program needs to run.
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")


@contextmanager
def local_worker(cache: Path, python: Path) -> Iterator[Path]:
    """Run the worker of a staged model, and yield its socket.

    Args:
        cache: Folder that app.stage filled.
        python: Interpreter of the model's environment.

    Raises:
        OSError: The process cannot be started.
    """
    folder = Path(tempfile.mkdtemp(prefix="worker"))  # short, because the path of a socket has at most 108 characters
    path = folder / "socket"
    command: list[str | Path] = [
        python,
        "-m",
        PROGRAM,
        "--model",
        cache / FOLDER,
        "--socket",
        path,
        "--message",
        folder / "message",
    ]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    added = {
        "HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    try:
        # What the model prints belongs to the log. The standard output is the command's own.
        with subprocess.Popen(
            [*command, "--end-seconds", str(_END_SECONDS)], cwd=cache / WORKER, env=kept | added, stdout=2
        ) as running:
            try:
                yield path
            finally:
                running.terminate()  # the context waits until it has ended
    finally:
        shutil.rmtree(folder, ignore_errors=True)
