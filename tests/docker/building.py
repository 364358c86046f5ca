"""The product's images in a Docker engine: built by `docker build`, or pulled where BUILT_IMAGES names them."""

import functools
import shutil
import tempfile
from pathlib import Path

from tools.cluster import engine
from tools.cluster.cache import CACHE, LOGS, ROOT
from tools.cluster.console import run, step
from tools.cluster.images import (
    CERTIFICATES,
    PRODUCTS,
    Image,
    build_with_docker,
    buildah,
    built_elsewhere,
    git_commit,
    python_image,
)

_WITH_AUTHORITY = "localhost/python-with-authority:1"


@functools.cache
def in_docker(image: Image) -> str:
    """Return the name of an image in the engine; build or pull it first."""
    if not engine.ours():
        build_with_docker(image)
        return image.local
    if not engine.running():
        engine.start()
    assert not built_elsewhere(), "BUILT_IMAGES needs a Docker engine of the user"
    return _build(image)


def _build(image: Image) -> str:
    """Build an image with BuildKit of our own engine, whose containers only reach what this machine reaches."""
    log, name = LOGS / f"docker-build-{image.name}.log", f"localhost/{image.name}-by-docker:{image.tag}"
    with step(f"docker build {image.name}", log):
        command = ["docker", "build", "--network=host", "--file", image.dockerfile, "--tag", name]
        command += ["--build-arg", f"PYTHON_IMAGE={_base()}", "--build-arg", f"GIT_COMMIT={git_commit()}"]
        command += ["--build-arg", f"SSL_CERT_FILE={CERTIFICATES}", ROOT]
        environment = {**engine.environment(), "DOCKER_BUILDKIT": "1"}
        run(command, env=environment, log=log, timeout_seconds=1800)
    return name


@functools.cache
def _base() -> str:
    """Load the stand-in for Docker's Python image, with the certificates that this machine trusts."""
    local = python_image()
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        archive = Path(work) / "python.tar"
        buildah("push", "--quiet", local, f"docker-archive:{archive}:{local}")
        engine.docker("load", "--quiet", "--input", archive)
        archive.unlink()
        shutil.copy(CERTIFICATES.resolve(), Path(work) / "ca.crt")
        (Path(work) / "Dockerfile").write_text(f"FROM {local}\nCOPY ca.crt {CERTIFICATES}\n")
        engine.docker("build", "--tag", _WITH_AUTHORITY, work)
    return _WITH_AUTHORITY


def remove() -> None:
    """Remove what the tests built in our own engine, but not its cache."""
    if engine.ours():
        names = [f"localhost/{image.name}-by-docker:{image.tag}" for image in PRODUCTS]
        for name in (*names, _WITH_AUTHORITY):
            if engine.has_image(name):
                engine.docker("rmi", "--force", name)
