"""The image registry of the kind cluster: a container that the nodes pull from and that this machine pushes to.

`kind load` sends whole images to every node; a registry sends each node only the layers that it lacks.
"""

import shutil
import tempfile
from pathlib import Path

from tools.cluster import engine
from tools.cluster.cache import CACHE, LOGS
from tools.cluster.console import step
from tools.cluster.engine import docker, has_image
from tools.cluster.images import REGISTRY, Image, build_with_docker, push_from_buildah
from tools.cluster.programs import registry as registry_programs

NAME = "model-service-registry"
PORT = 5000
PULLED_IMAGE = "docker.io/library/registry:3"
# Images that are built here are called localhost/<name>:<tag>, those of a release <address>/…. containerd finds the
# registry under both names.
_HOSTS = f'server = "http://{NAME}:{PORT}"\n[host."http://{NAME}:{PORT}"]\ncapabilities = ["pull", "resolve"]\n'


def start(nodes: list[str]) -> None:
    """Start the registry if it does not run, and let the nodes pull from it."""
    if NAME not in docker("ps", "--format", "{{.Names}}").split():
        with step("start the image registry", LOGS / "registry.log"):
            image = _build() if engine.ours() else PULLED_IMAGE
            docker("rm", "--force", NAME)
            docker(
                "run", "--detach", "--name", NAME, "--network=kind", f"--publish=127.0.0.1::{PORT}",
                "--volume=model-service-registry:/var/lib/registry", image,
            )  # fmt: skip
    for node in nodes:
        for host in ("localhost", address()):
            folder = f"/etc/containerd/certs.d/{host}"
            script = f"mkdir -p {folder} && cat > {folder}/hosts.toml <<'EOF'\n{_HOSTS}EOF"
            docker("exec", node, "sh", "-c", script)


def address() -> str:
    """Return the registry's address on this machine, as host:port."""
    return docker("port", NAME, f"{PORT}/tcp").split()[0]


def push(image: Image) -> None:
    """Build an image if it is missing, and push the layers that the registry lacks, so that nodes can pull it."""
    target = image.reference if REGISTRY else f"{address()}/{image.name}:{image.tag}"
    with step(f"push image {image.name}"):
        if engine.ours():
            push_from_buildah(image, target, "")
            return
        build_with_docker(image)
        docker("tag", image.local, target)
        docker("push", "--quiet", target)


def stop() -> None:
    """Remove the registry and its images."""
    docker("rm", "--force", "--volumes", NAME)
    docker("volume", "rm", "--force", NAME)


def _build() -> str:
    programs = registry_programs()
    image = f"localhost/registry:{programs.name.rpartition('-')[2]}"
    if has_image(image):
        return image
    text = 'FROM scratch\nCOPY registry config.yml /\nENTRYPOINT ["/registry", "serve", "/config.yml"]\n'
    config = (
        "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\n"
        f"http: {{addr: ':{PORT}'}}\n"
    )
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        shutil.copy(programs / "registry", work)
        (Path(work) / "Dockerfile").write_text(text)
        (Path(work) / "config.yml").write_text(config)
        docker("build", "--tag", image, work)
    return image
