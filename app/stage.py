"""The first step of a pod with a worker: obtain and verify the model, and leave it for the other containers.

`python -m app.stage` runs as an init container. None of the model's code runs before the digest of all files was
checked, because the containers that run it start later. It also leaves the worker's program, which the model's image
does not have.
"""

import logging
import re
import sys
import threading
from pathlib import Path

from app import worker
from app.errors import LoadError
from app.loading import Times, keep_trying
from app.model.compatibility import python_of
from app.model.files import Provenance
from app.model.pyfunc import Checked, check
from app.registry import staged
from app.registry.obtain import obtain
from app.registry.staged import Staged
from app.settings import Settings
from app.startup import read_settings

PANDAS_3 = (3, 17)  # an MLflow that accepts pandas 3

# MLflow itself needs 400 MB, most of it for its server. mlflow-skinny and pandas are enough to load a model.
_MLFLOW = re.compile(r"mlflow\s*(?P<version>==[^;\s]+|[<>~!=].*)?(?P<rest>\s*(;.*)?)$", re.IGNORECASE)
_PANDAS = re.compile(r"pandas\s*([<>=!~;\[]|$)", re.IGNORECASE)

log = logging.getLogger(__name__)


def stage(settings: Settings, times: Times) -> Staged:
    """Obtain the model, verify it, and leave it in the cache with the worker's program.

    Raises:
        LoadError: The model cannot be obtained, or it needs a different Python than the worker's container has.
    """
    obtained = obtain(
        settings, lambda folder, _: check(folder, settings.model_sha256), times.deadline, times.patient_until
    )
    model, folder, cache = obtained.model, obtained.folder, settings.cache_dir
    _require_python(settings, model, folder)
    provenance = obtained.copy.provenance if obtained.copy else _provenance(settings, model)
    if obtained.origin == "folder":
        folder = _own_copy(cache, folder, model)
    staged.copied(Path(worker.__file__).parent, cache / staged.WORKER / staged.PROGRAM, "__pycache__")
    (cache / staged.WORKER / staged.REQUIREMENTS).write_text(requirements_of(folder), encoding="utf-8")
    found = Staged(folder, obtained.origin, provenance, obtained.copy)
    staged.write(settings, found)
    facts = {"version": provenance.version, "origin": found.origin, "sha256": model.sha256, "files": len(model.digests)}
    log.info("model staged", extra=facts)
    return found


def requirements_of(folder: Path) -> str:
    """Return the model's requirements, with mlflow-skinny and pandas instead of MLflow with its server."""
    path = folder / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        if match := _MLFLOW.fullmatch(line.strip()):
            found.append(f"mlflow-skinny{match['version'] or ''}{match['rest']}")
        else:
            found.append(line)
    if not any(_PANDAS.match(line.strip()) for line in lines):
        found.append(f"pandas{_pandas_of(lines)}")
    return "\n".join(found) + "\n"


def _pandas_of(lines: list[str]) -> str:
    """Return the versions of pandas that the model's MLflow accepts; mlflow-skinny does not state them."""
    for line in lines:
        if match := re.match(r"mlflow(?:-skinny)?\s*==\s*(\d+)\.(\d+)", line.strip(), re.IGNORECASE):
            return "<3" if (int(match[1]), int(match[2])) < PANDAS_3 else ""
    return ""


def _require_python(settings: Settings, model: Checked, folder: Path) -> None:
    wanted, present = python_of(folder, model.mlmodel), settings.worker_python
    if settings.model_compatibility == "off" or not wanted or not present:
        return
    minor = ".".join(wanted.split(".")[:2])
    if minor != present:
        raise LoadError(
            f"it was logged with Python {wanted}, but model.environment.python is {present}",
            f'set model.environment.python="{minor}", or log the model with Python {present}',
        )


def _provenance(settings: Settings, model: Checked) -> Provenance:
    return Provenance(settings.served_name, "", settings.model_uri).completed(model.mlmodel, model.sha256)


def _own_copy(cache: Path, folder: Path, model: Checked) -> Path:
    """Copy a model from a volume that others may change, and verify the copy."""
    target = cache / f"folder-{model.sha256[:12]}"
    try:
        staged.copied(folder, target)
    except OSError as error:
        raise LoadError(
            f"it cannot be copied to {cache} ({error.strerror or type(error).__name__})",
            "set MODEL_SERVICE_CACHE_DIR to a writable folder with enough space",
        ) from None
    check(target, model.sha256)
    return target


def main() -> int:
    """Stage the model, and return the exit status: 1 if the settings are invalid or it cannot be obtained."""
    settings = read_settings()
    if settings is None:
        return 1
    try:
        keep_trying(settings, lambda times: stage(settings, times), lambda _: None, threading.Event())
    except LoadError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
