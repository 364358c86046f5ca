"""The images that run on the cluster: what goes into each, and how each is built with or without Docker.

A tag is the hash of what the image is made of: the same files give the same tag, so nothing is built or loaded twice.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.cluster import engine
from tools.cluster.cache import CACHE, LOGS, ROOT, key_of
from tools.cluster.console import Failure, run, step
from tools.cluster.programs import KEDA as KEDA_MODULE
from tools.cluster.programs import VERSITYGW as VERSITYGW_MODULE
from tools.cluster.programs import cluster_programs, keda, versitygw

STORE = CACHE / "buildah"
# Where images are pushed to for a cluster that somebody else made, e.g. ghcr.io/me.
REGISTRY = os.environ.get("REGISTRY", "").rstrip("/")
LOCAL = Path(__file__).parent / "dockerfiles"
PYTHON_PACKAGES = "python3,python3-venv,ca-certificates"
# The date of every file in an image, in seconds (1980): a layer whose files did not change keeps its digest, and nodes
# that have it pull nothing.
SOURCE_DATE_EPOCH = "315532800"
# The docker format, because only that one carries a HEALTHCHECK.
BUILD_OPTIONS = ("--format", "docker", "--isolation", "chroot", "--network", "host", "--timestamp", SOURCE_DATE_EPOCH)
# Behind a private certificate authority the build stages must trust what this machine trusts.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """One image: its name, its Dockerfile, what decides what is in it, the programs it consists of and their folder."""

    name: str
    dockerfile: Path
    inputs: tuple[Path, ...]
    programs: tuple[str, ...] = ()
    folder: Callable[[], Path] = cluster_programs

    @cached_property
    def tag(self) -> str:
        """Hash of everything that the image is made of, when first used: files may change during a run."""
        base = "" if self.programs else PYTHON_PACKAGES
        return key_of([self.dockerfile, *self.inputs], base, *BUILD_OPTIONS)

    @property
    def local(self) -> str:
        """Its name on this machine."""
        return f"localhost/{self.name}:{self.tag}"

    @property
    def reference(self) -> str:
        """Its name in a pod: in the registry that REGISTRY names, else in the registry of our own cluster."""
        return f"{REGISTRY or 'localhost'}/{self.name}:{self.tag}"


def _product(name: str, dockerfile: str, *inputs: str) -> Image:
    always = ("pyproject.toml", "uv.lock", ".dockerignore", "tools/uv-requirements.txt")
    return Image(name, ROOT / "docker" / dockerfile, tuple(ROOT / path for path in (*always, *inputs)))


APP = _product("model-service", "app.Dockerfile", "app")
TRAINING = _product("model-service-training", "training.Dockerfile", "app", "training")
MLFLOW = _product("model-service-mlflow", "mlflow.Dockerfile", "mlflow_server")
PRODUCTS = (APP, TRAINING, MLFLOW)
# Python without packages, in which models of other flavors run.
MODEL_PYTHON = Image("model-python", LOCAL / "model-python.Dockerfile", ())

_PROGRAMS = ROOT / "tools" / "cluster" / "kubernetes"
PROMETHEUS = Image("prometheus", LOCAL / "prometheus.Dockerfile", ())
ALERTMANAGER = Image("alertmanager", LOCAL / "alertmanager.Dockerfile", ())
NODE_EXPORTER = Image("node-exporter", LOCAL / "node-exporter.Dockerfile", ())
OPERATOR = Image("prometheus-operator", LOCAL / "prometheus-operator.Dockerfile", (_PROGRAMS,), ("operator",))
RELOADER = Image(
    "prometheus-config-reloader",
    LOCAL / "prometheus-config-reloader.Dockerfile",
    (_PROGRAMS,),
    ("prometheus-config-reloader",),
)
KEDA = Image("keda", LOCAL / "keda.Dockerfile", (KEDA_MODULE,), ("operator", "adapter"), keda)
HAPROXY = Image("haproxy", LOCAL / "haproxy.Dockerfile", ())
POSTGRESQL = Image("postgresql", LOCAL / "postgresql.Dockerfile", ())
VERSITYGW = Image("versitygw", LOCAL / "versitygw.Dockerfile", (VERSITYGW_MODULE,), ("versitygw",), versitygw)


def buildah(*arguments: object, log: Path | None = None) -> str:
    """Run buildah on the cache's own store and return what it printed."""
    store = ["--root", STORE / "root", "--runroot", STORE / "run", "--storage-driver", "overlay"]
    remedy = "Check the network and the free disk, then run again; finished layers are kept."
    return run(["buildah", *store, *arguments], log=log, timeout_seconds=1800, remedy=remedy)


def _built(reference: str) -> bool:
    try:
        buildah("inspect", "--type", "image", reference)
    except Failure:
        return False
    return True


def python_image() -> str:
    """Return the stand-in for `python:3.13-slim`: the same Debian with its own Python 3.13; build it when needed."""
    reference = f"localhost/python:{key_of([LOCAL / 'python.Dockerfile'], PYTHON_PACKAGES)}"
    if not _built(reference):
        log = LOGS / "image-python.log"
        with (
            step("make the Python base image from Debian packages", log),
            tempfile.TemporaryDirectory(dir=CACHE) as work,
        ):
            keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
            command = [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={PYTHON_PACKAGES}",
                f"--keyring={keyring}",
            ]
            run(
                [*command, "trixie", f"{work}/python.tar"],
                log=log,
                remedy="Check that Debian's mirror can be reached.",
            )
            buildah("build", *BUILD_OPTIONS, "-f", LOCAL / "python.Dockerfile", "-t", reference, work, log=log)
    return reference


def git_commit() -> str:
    """Return the commit that is checked out, with `-dirty` when files differ from it ("" outside a work tree)."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def built_elsewhere() -> dict[str, str]:
    """Return the references by digest of images to test instead of building them, by name: the file BUILT_IMAGES."""
    file = os.environ.get("BUILT_IMAGES")
    return dict(json.loads(Path(file).read_text())) if file else {}


def build(image: Image) -> None:
    """Build an image if it is missing: with the user's Docker engine, else with buildah."""
    if engine.ours():
        build_with_buildah(image)
    else:
        build_with_docker(image)


def build_with_buildah(image: Image) -> None:
    """Build an image into the cache's own store if it is missing."""
    if _built(image.local):
        return
    build_again(image, image.local)
    built = buildah("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}").split()
    for older in built:
        if older.startswith(f"localhost/{image.name}:") and older != image.local:
            buildah("rmi", "--force", older)


def build_again(image: Image, reference: str, *options: str) -> None:
    """Build an image under a name, whether it exists or not."""
    arguments: list[object] = ["--layers", *options, *BUILD_OPTIONS, "-f", image.dockerfile, "-t", reference]
    arguments += ["--build-arg", f"GIT_COMMIT={git_commit()}"]
    if not image.programs:
        arguments += ["--build-arg", f"PYTHON_IMAGE={python_image()}"]
    if CERTIFICATES.exists():
        folder = os.path.realpath(CERTIFICATES.parent)
        arguments += ["-v", f"{folder}:{folder}:ro", "--build-arg", f"SSL_CERT_FILE={CERTIFICATES}"]
    log = LOGS / f"image-{image.name}.log"
    with step(f"build image {image.name}", log), tempfile.TemporaryDirectory(dir=CACHE) as work:
        for program in image.programs:
            shutil.copy(image.folder() / program, work)
        context = work if image.programs else ROOT
        buildah("build", *arguments, context, log=log)


def push_from_buildah(image: Image, target: str, _revision: str) -> str:
    """Build an image if it is missing, push it over plain HTTP to loopback, and return the manifest's digest."""
    build_with_buildah(image)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        digest = Path(work) / "digest"
        plain = [f"--tls-verify={str(not target.startswith('127.0.0.1:')).lower()}"]
        buildah("push", "-q", *plain, "--digestfile", digest, image.local, f"docker://{target}")
        return digest.read_text().strip()


def build_with_docker(image: Image) -> None:
    """Build an image with the Docker engine, or pull it if it was built elsewhere."""
    log = LOGS / f"image-{image.name}.log"
    if reference := built_elsewhere().get(image.name):
        with step(f"pull image {reference}", log):
            run(["docker", "pull", reference], log=log, timeout_seconds=1800, remedy="Is `docker login` done?")
            run(["docker", "tag", reference, image.local], log=log)
        return
    with step(f"build image {image.name}", log):
        command = ["docker", "build", *_load_option(), "-f", image.dockerfile, "-t", image.local]
        context = image.folder() if image.programs else ROOT
        # kind cannot load an image with a provenance attestation, which Docker's containerd image store adds.
        env = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        command += ["--build-arg", f"GIT_COMMIT={git_commit()}"]
        remedy = "Check the network and the free disk (docker system df), then run again; finished layers are kept."
        run([*command, context], log=log, env=env, timeout_seconds=1800, remedy=remedy)


def _load_option() -> list[str]:
    """Return the option that keeps the image, which builders in containers otherwise drop; only buildx knows it."""
    done = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return ["--load"] if done.returncode == 0 else []
