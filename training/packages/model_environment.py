"""The environment of a model: its own Python, with the packages that it was logged with."""

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from app.model.compatibility import python_of
from app.model.files import ModelFiles, mlmodel_of
from app.stage import requirements_of
from training.errors import InputError, ResourceError
from training.packages import uv

NEEDED = ("mlflow", "numpy", "pandas")  # what the worker imports
_FIND = (
    "import importlib.util, sys; "
    "print(*(name for name in sys.argv[1:] if not importlib.util.find_spec(name)), sep=', ')"
)

log = logging.getLogger("training")


def python_version(folder: Path) -> str:
    """Return the minor version of Python with which a model was logged, such as 3.11, or "" if it is not known."""
    return ".".join(python_of(folder, mlmodel_of(ModelFiles(folder, to_load=False))).split(".")[:2])


def interpreter_of(folder: Path, *, allow_source: bool = False) -> Path:
    """Return the interpreter of the model's environment, which is made if it is not cached.

    Args:
        folder: The model in MLflow's format.
        allow_source: Build packages that have no wheel.

    Raises:
        InputError: The packages do not exist, or contradict each other.
        TrainingError: The package index is unreachable.
    """
    requirements, version = requirements_of(folder), python_version(folder)
    facts = "\0".join([requirements, version, platform.machine()])
    target = _cache() / hashlib.sha256(facts.encode()).hexdigest()[:16]
    python = target / "bin" / "python"
    if (target / "pyvenv.cfg").exists():
        log.info("the model runs in %s", target)
        return python
    begin = time.monotonic()
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            (listed := partial / "requirements.txt").write_text(requirements, encoding="utf-8")
            made = partial / "environment"
            uv.run(["venv", "--quiet", *(["--python", version] if version else []), made])
            options: list[str | Path] = [
                "pip",
                "install",
                "--quiet",
                "--python",
                made / "bin" / "python",
                "--requirements",
                listed,
            ]
            uv.run(options, allow_source=allow_source)
            with suppress(OSError):  # another process was faster
                made.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"{target.parent} cannot be written to ({error.strerror}): set XDG_CACHE_HOME.") from None
    log.info("the model runs in %s, made in %.1f s", target, time.monotonic() - begin)
    return python


def check_interpreter(python: Path) -> None:
    """Check that an interpreter can run the worker.

    Raises:
        InputError: It cannot be started, or a package is missing.
    """
    option = "--model-python (TRAINING_MODEL_PYTHON)"
    try:
        done = subprocess.run([python, "-c", _FIND, *NEEDED], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise InputError(f"{option}: {python} cannot be started; name the interpreter of an environment.") from None
    if done.returncode:
        raise InputError(f"{option}: {python} is not an interpreter of Python.")
    if missing := done.stdout.strip():
        raise InputError(f"{option}: {python} has no package {missing}; install the model's requirements.txt there.")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "model-service" / "environments"
