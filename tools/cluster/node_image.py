"""The kind node image that is built where none can be pulled: Debian's packages and the programs of this project.

It is what kind expects of `kindest/node`: systemd, containerd, kubeadm, and the control plane's images inside. One
binary with an entry point per name serves as all of these images.
"""

import json
import shutil
import tempfile
from pathlib import Path

from tools.cluster.cache import CACHE, LOGS, key_of
from tools.cluster.console import run, step, wait_for
from tools.cluster.engine import docker, has_image
from tools.cluster.programs import (
    ENTRY_POINTS,
    KUBERNETES_VERSION,
    cluster_programs,
    containerd,
    node_programs,
)

ROOTFS = Path(__file__).parent / "rootfs"
DOCKERFILE = Path(__file__).parent / "dockerfiles" / "node.Dockerfile"
NAME = "localhost/model-service-node"
PROGRAMS_IMAGE = "localhost/node-programs:built"  # the name in rootfs/kind/manifests
SANDBOX = "registry.k8s.io/pause:3.10"  # the name in rootfs/etc/containerd/config.toml
METRICS_SERVER = "registry.k8s.io/metrics-server/metrics-server:v0.9.0"
# Debian 12, because the systemd of Debian 13 refuses cgroup v1.
SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "runc", "containernetworking-plugins", "iptables", "nftables", "iproute2",
    "conntrack", "kmod", "ethtool", "socat", "mount", "util-linux", "procps", "ca-certificates",
)  # fmt: skip
_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOG = LOGS / "node-image.log"


def reference() -> str:
    """Return the name of the image, whose tag is the digest of what it is made of."""
    folders = (cluster_programs(), containerd(), node_programs())
    return f"{NAME}:{key_of([ROOTFS, DOCKERFILE, Path(__file__)], *PACKAGES, *(folder.name for folder in folders))}"


def build() -> str:
    """Build the node image if it is missing, and return its reference."""
    wanted = reference()
    if has_image(wanted):
        return wanted
    with (
        step("build the node image", _LOG),
        tempfile.TemporaryDirectory(dir=CACHE) as work,
    ):
        archive, files = Path(work) / "images.tar", Path(work) / "rootfs"
        _build_programs(Path(work) / "programs")
        _save_images(Path(work) / "parts", archive)
        shutil.copytree(ROOTFS, files)
        (files / "kind" / "version").write_text(f"v{KUBERNETES_VERSION}")
        base = f"PROGRAMS_IMAGE={PROGRAMS_IMAGE}"
        docker("build", "--file", DOCKERFILE, "--build-arg", base, "--tag", f"{NAME}:plain", files, log=_LOG)
        _import(archive, wanted)
    for older in docker("images", "--format", "{{.Repository}}:{{.Tag}}", NAME).split():
        if older not in (wanted, f"{NAME}:plain"):
            docker("rmi", older)
    return wanted


def _build_programs(context: Path) -> None:
    """Build the image that has all programs: the base of the node and of the control plane's images."""
    context.mkdir()
    for source in (
        cluster_programs() / "kubernetes",
        cluster_programs() / "crictl",
        node_programs() / "local-path-provisioner",
        *(containerd() / name for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
    ):
        shutil.copy(source, context)
    for name in ENTRY_POINTS:
        (context / name).symlink_to("kubernetes")
    _build_text(context, f"FROM {root_image()}\nCOPY . /usr/local/bin/\n", PROGRAMS_IMAGE)


def root_image() -> str:
    """Return the image of Debian's packages that the nodes start from; make it when it is missing."""
    image = f"localhost/node-root:{key_of([], SUITE, *PACKAGES)}"
    if not has_image(image):
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            archive = Path(work) / "root.tar"
            keyring = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
            command = ["mmdebstrap", "--variant=minbase", keyring, f"--include={','.join(PACKAGES)}", SUITE, archive]
            run(command, log=_LOG, timeout_seconds=1200, remedy="Check that Debian's mirror can be reached.")
            docker("import", "--change", _PATH, archive, image)
    return image


def _save_images(context: Path, archive: Path) -> None:
    """Write an archive of the images that kubeadm and the manifests name: one root under each name."""
    version = f"--kubernetes-version=v{KUBERNETES_VERSION}"
    names = run([cluster_programs() / "kubeadm", "config", "images", "list", version]).split()
    pause = next(name for name in names if "/pause:" in name)
    coredns = next(name for name in names if "/coredns:" in name)
    context.mkdir()
    _build_text(context, f'FROM {PROGRAMS_IMAGE}\nENTRYPOINT ["/usr/local/bin/coredns"]\n', coredns)
    shutil.copy(cluster_programs() / "pause", context)
    _build_text(context, 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n', SANDBOX)
    docker("tag", SANDBOX, pause)
    _build_text(context, f'FROM {PROGRAMS_IMAGE}\nENTRYPOINT ["/usr/local/bin/metrics-server"]\n', METRICS_SERVER)
    for name in names:
        if name not in (pause, coredns):
            docker("tag", PROGRAMS_IMAGE, name)
    docker("save", "--output", archive, PROGRAMS_IMAGE, SANDBOX, METRICS_SERVER, *names)


def _build_text(context: Path, text: str, image: str) -> None:
    dockerfile = context.with_suffix(".Dockerfile")
    dockerfile.write_text(text)
    docker("build", "--file", dockerfile, "--tag", image, context, log=_LOG)


def _import(archive: Path, image: str) -> None:
    """Import the images into containerd within a container of the image, and commit it, as kind's own build does."""
    container = docker(
        "run", "--detach", "--privileged", "--entrypoint=/bin/sh", "--tmpfs=/run", "--tmpfs=/tmp",
        f"--volume={archive}:/images.tar:ro", f"{NAME}:plain",
        "-c", "containerd >/tmp/containerd.log 2>&1 & sleep 1200",
    ).strip()  # fmt: skip
    try:
        wait_for(
            "containerd in the node image",
            lambda: docker("exec", container, "ctr", "version"),
            timeout_seconds=300,
            remedy=f"See {_LOG}.",
        )
        docker(
            "exec", container, "ctr", "--namespace=k8s.io", "images", "import", "--all-platforms", "--no-unpack",
            "--digests", "/images.tar", log=_LOG,
        )  # fmt: skip
        docker("exec", container, "sh", "-c", "kill $(pidof containerd); sleep 2")
        entrypoint = json.dumps(["/usr/local/bin/entrypoint"])
        docker("commit", "--change", f"ENTRYPOINT {entrypoint}", "--change", "CMD []", container, image)
    finally:
        docker("rm", "--force", container)
