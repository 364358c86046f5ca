"""The command `image`: write a Dockerfile, a lock and the chart's values for an image of a model's Python and packages.

Pods of such an image install nothing when they start. Nothing is built or pushed here.

Exit codes: 0 the folder is written, 1 the package index or MLflow is unreachable, 2 the requirements cannot be met.
"""

import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from app.errors import LoadError
from app.model.pyfunc import check
from training.commands.lock import LockOptions, lock_of, write
from training.errors import InputError, ResourceError
from training.tracking.model_metadata import folder_of

DOCKERFILE, LOCK_FILE, VALUES_FILE = "Dockerfile", "requirements.lock", "values.yaml"
_REFERENCE = re.compile(
    r"(?P<registry>[a-z0-9.-]+(?::\d+)?)/(?P<repository>[a-z0-9][a-z0-9._/-]*):(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
)
_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}")
_TEMPLATE = """\
# The Python and the packages of {uri}, for model.environment.image of the chart model-service. The model is not in the
# image: the pod downloads and verifies it.
ARG PYTHON_IMAGE={base}

FROM ${{PYTHON_IMAGE}} AS build
COPY {lock} /tmp/
RUN python3 -m venv --without-pip /opt/venv \\
    && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes {wheels}\\
        --requirement /tmp/{lock}

FROM ${{PYTHON_IMAGE}}
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="{title}" \\
      org.opencontainers.image.description="Python and packages of {uri}" \\
      org.opencontainers.image.base.name="${{PYTHON_IMAGE}}"
ENV PATH=/opt/venv/bin:${{PATH}} \\
    PYTHONDONTWRITEBYTECODE=1 \\
    MLFLOW_DISABLE_TELEMETRY=true
COPY --from=build /opt/venv /opt/venv
USER 10001:10001
# The chart runs the worker in it, and its service has the probes.
HEALTHCHECK NONE
"""

log = logging.getLogger("training")


class Options(LockOptions):
    """Write a Dockerfile, a lock with hashes and the chart's values for an image with a model's Python and packages."""

    image: str = Field(description="Reference of the image to build: <registry>/<repository>:<tag>.")
    base: str = Field(
        default="",
        description="Base image with the model's Python, with its digest: <image>@sha256:…. Empty takes "
        "docker.io/library/python:<version>-slim, which the build argument PYTHON_IMAGE can pin.",
    )
    output: Path = Field(default=Path("model-image"), description="Folder to write, which is created if necessary.")

    @field_validator("image")
    @classmethod
    def _is_a_reference(cls, image: str) -> str:
        if not _REFERENCE.fullmatch(image):
            raise ValueError("must be <registry>/<repository>:<tag>, such as registry.example/churn-python:7")
        return image


def run(options: Options) -> dict[str, Any]:
    """Write the folder, and return its files and the values of the chart.

    Raises:
        TrainingError: The requirements cannot be resolved, or the folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = folder_of(options.uri, options.mlflow_tracking_uri, Path(work), all_files=True)
        try:
            sha256 = check(folder).sha256
        except LoadError as error:
            raise InputError(f"{options.uri} cannot be served: {error}.") from None
        python, found = lock_of(options, folder)
    base = options.base or f"docker.io/library/python:{python}-slim"
    if not _PINNED.fullmatch(base):
        log.warning("%s is not pinned: give --base with its digest, or build with --build-arg PYTHON_IMAGE=…", base)
    values = _values(options, python, sha256)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"--output (TRAINING_OUTPUT): {options.output} ({error.strerror}).") from None
    title = options.image.rpartition("/")[2].partition(":")[0]
    wheels = "" if options.allow_source else "--only-binary :all: "
    dockerfile = _TEMPLATE.format(uri=options.uri, base=base, lock=LOCK_FILE, title=title, wheels=wheels)
    files = {DOCKERFILE: dockerfile, LOCK_FILE: found.text, VALUES_FILE: yaml.safe_dump(values, sort_keys=False)}
    for name, text in files.items():
        write(options.output / name, text)
    log.info("build it with: docker build --tag %s %s", options.image, options.output)
    return {"output": str(options.output), "files": sorted(files), "python": python, "base": base, "values": values}


def _values(options: Options, python: str, sha256: str) -> dict[str, Any]:
    """Return the values of the chart that serve the model with the image."""
    if (reference := _REFERENCE.fullmatch(options.image)) is None:  # checked above
        raise InputError(f"{options.image} is not an image.")
    environment = {"python": python, "install": False, "image": reference.groupdict()}
    return {"model": {"uri": options.uri, "sha256": sha256, "flavor": "pyfunc", "environment": environment}}
