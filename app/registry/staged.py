"""A verified model that `python -m app.stage` left for the containers of a pod with a worker.

The service and the worker must use the same files, so only the first container of the pod obtains the model.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.copies import Copy
from app.registry.obtain import Origin
from app.settings import Settings

RECORD = "staged.json"
FOLDER = "served"  # link to the model's folder, for the worker
WORKER = "worker"  # folder of the worker's program and of the requirements
PROGRAM = "model_service_worker"  # a name that no package of a model has
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Staged:
    """What was staged: the folder, its origin, and the copy that other pods may take."""

    folder: Path
    origin: Origin
    provenance: Provenance
    copy: Copy | None


_STAGED = TypeAdapter(Staged)


def write(settings: Settings, staged: Staged) -> None:
    """Record the model, and let the link lead to it.

    Raises:
        LoadError: The cache cannot be written to.
    """
    cache = settings.cache_dir
    try:
        (link := cache / f"{FOLDER}.new").unlink(missing_ok=True)
        link.symlink_to(staged.folder.relative_to(cache))
        os.replace(link, cache / FOLDER)
        (new := cache / f"{RECORD}.new").write_bytes(_STAGED.dump_json(staged))
        os.replace(new, cache / RECORD)
    except OSError as error:
        cause = f"{cache} cannot be written to ({error.strerror})"
        raise LoadError(cause, "set MODEL_SERVICE_CACHE_DIR to a writable folder with enough space") from None


def read(settings: Settings) -> Staged:
    """Return the model that was staged.

    Raises:
        LoadError: There is none.
    """
    try:
        return _STAGED.validate_json((settings.cache_dir / RECORD).read_bytes())
    except (OSError, ValidationError):
        raise LoadError(
            f"{settings.cache_dir} contains no staged model",
            "run python -m app.stage first, as the chart's init container does, with the same settings",
        ) from None


def copied(source: Path, target: Path, *without: str) -> None:
    """Copy a folder, so that the copy is complete or does not exist.

    Args:
        source: Folder to copy.
        target: The copy, which is replaced if it exists.
        without: Patterns of names to leave out.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*without), copy_function=shutil.copyfile)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
