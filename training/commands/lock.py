"""The command `lock`: write the requirements of a model with the version and the hashes of each package.

The file is the value `model.environment.lock` of the chart. A pod then installs these packages and no others.

Exit codes: 0 the lock is written, 1 the package index or MLflow is unreachable, 2 the requirements cannot be met.
"""

import hashlib
import logging
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg

from app.stage import requirements_of
from training.errors import InputError, ResourceError
from training.packages.lock import Architecture, Lock, lock
from training.packages.model_environment import python_version
from training.settings import Settings
from training.tracking.model_metadata import REQUIREMENTS_FILE, folder_of

log = logging.getLogger("training")


class LockOptions(Settings):
    """The model, and the platform of its pods."""

    mlflow_tracking_uri: str = Field(
        default="",
        validation_alias="mlflow_tracking_uri",
        description="Address of the MLflow server; required for models:/ URIs.",
    )
    uri: CliPositionalArg[str] = Field(description="models:/<name>/<version>, or file:///<folder>.")
    python_version: str = Field(
        default="",
        pattern=r"^(3\.\d+)?$",
        description="Minor version of Python, such as 3.11. Empty takes that of the model's python_env.yaml.",
    )
    architectures: tuple[Architecture, ...] = Field(
        default=("x86_64",),
        min_length=1,
        description="Processors of the nodes, separated by commas: x86_64, aarch64. The same lock must fit all.",
    )
    allow_source: bool = Field(
        default=False,
        description="Accept packages that have no wheel. A pod builds them with model.environment.allowSource.",
    )

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Check the address if there is one, because a model in a folder needs none."""
        return super()._is_a_server(uri) if uri else uri


class Options(LockOptions):
    """Write a lock of a model's requirements, for `helm --set-file model.environment.lock`."""

    output: Path = Field(default=Path("model.lock"), description="File to write.")


def run(options: Options) -> dict[str, Any]:
    """Write the lock, and return its path, its packages and the values that belong to it.

    Raises:
        TrainingError: The requirements cannot be resolved, or the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as work:
        python, found = lock_of(options, folder_of(options.uri, options.mlflow_tracking_uri, Path(work)))
    write(options.output, found.text)
    log.info("%d packages for Python %s in %s", len(found.packages), python, options.output)
    return {
        "output": str(options.output),
        "sha256": hashlib.sha256(found.text.encode()).hexdigest(),
        "python": python,
        "packages": found.packages,
        "values": {"model": {"environment": {"python": python}}},
    }


def lock_of(options: LockOptions, folder: Path) -> tuple[str, Lock]:
    """Return the minor version of Python and the lock of the model in a folder.

    Raises:
        InputError: The version is not known, or the requirements cannot be met.
        TrainingError: The package index is unreachable.
    """
    if not (folder / REQUIREMENTS_FILE).is_file():
        raise InputError(f"{options.uri} has no {REQUIREMENTS_FILE}: log it with MLflow's pip_requirements.")
    python = options.python_version or python_version(folder)
    if not python:
        raise InputError(
            "--python-version (TRAINING_PYTHON_VERSION): the model has no python_env.yaml; name its Python."
        )
    title = f"{options.uri}: Python {python}, {', '.join(options.architectures)}"
    wanted = requirements_of(folder)
    return python, lock(wanted, python, options.architectures, title, allow_source=options.allow_source)


def write(path: Path, text: str) -> None:
    """Write a file of the result.

    Raises:
        ResourceError: It cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"--output (TRAINING_OUTPUT): {path} cannot be written ({error.strerror}).") from None
