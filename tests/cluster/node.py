"""The embedded cluster's one node: its addresses, its folders, and every process with its flags and configuration."""

import json
import shutil
from pathlib import Path
from string import Template

from tests.cluster.cache import CACHE, key_of
from tests.cluster.daemons import Daemon
from tests.cluster.images import PAUSE

# 198.18.0.0/15 is the benchmarking range of RFC 2544: no network routes it, so nothing leaves this machine.
NETWORK = "198.18.0.0/15"
NODE_IP = "198.18.0.1"
PODS = "198.18.128.0/17"
SERVICES = "198.19.0.0/16"
KUBERNETES_SERVICE_IP = "198.19.0.1"
NODE = "model-service"
NODE_BRIDGE, POD_BRIDGE = "msnode0", "mspods0"
PORTS = {
    "etcd": 2379,
    "etcd ": 2380,
    "kube-apiserver": 6443,
    "kubelet": 10250,
    "coredns": 53,
    "metrics-server": 4443,
}

STATE = CACHE / "state"
PKI = STATE / "pki"
KUBECONFIG = STATE / "kubeconfig" / "admin.conf"
RUNTIME = Path("/run/model-service")
SOCKET = RUNTIME / "containerd.sock"
CONTAINERD_ROOT = CACHE / "containerd"  # the images: kept by `stop`, so that the next start is quick
VOLUMES = STATE / "volumes"
TEMPLATES = Path(__file__).parent / "manifests"


def write_configuration() -> None:
    """Write the kubeconfig of every client and the configuration files that have no flags."""
    for name in ("admin", "controller-manager", "scheduler", "kubelet", "proxy"):
        cluster = {"server": f"https://{NODE_IP}:6443", "certificate-authority": str(PKI / "ca.crt")}
        user = {"client-certificate": str(PKI / f"{name}.crt"), "client-key": str(PKI / f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NODE, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": name}}],
            "current-context": NODE,
        }
        _write(KUBECONFIG.parent / f"{name}.conf", json.dumps(config, indent=1))
    names = {
        "state": STATE, "pki": PKI, "run": RUNTIME, "images": CONTAINERD_ROOT, "node_ip": NODE_IP, "pods": PODS,
        "pod_bridge": POD_BRIDGE, "pod_subnet": PODS.replace("/17", "/24"), "runc": shutil.which("runc"), "node": NODE,
        "pause": PAUSE.reference,
    }  # fmt: skip
    for template in (TEMPLATES / "node").iterdir():
        folder = "cni" if template.suffix == ".conflist" else "etc"
        _write(STATE / folder / template.name, Template(template.read_text()).substitute(names))


def _write(path: Path, text: str) -> None:
    """Write a file unless it says so already: kube-proxy ends itself when its file is touched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def daemons(programs: Path) -> list[Daemon]:
    """Return every process of the cluster in the order in which they start."""
    client = KUBECONFIG.parent

    def certificate(prefix: str, name: str) -> list[str]:
        return [f"--{prefix}cert-file={PKI / name}.crt", f"--{prefix}key-file={PKI / name}.key"]

    def three_times(name: str) -> list[str]:
        flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        return [f"--{flag}={client / name}.conf" for flag in flags]

    commands = {
        "containerd": [shutil.which("containerd") or "containerd", "-c", f"{STATE}/etc/containerd.toml"],
        "etcd": [
            f"--data-dir={STATE}/etcd", "--unsafe-no-fsync", "--log-level=warn", "--listen-metrics-urls=",
            "--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
            "--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
            "--initial-cluster=default=https://127.0.0.1:2380",
            *certificate("", "etcd"), f"--trusted-ca-file={PKI}/ca.crt", "--client-cert-auth",
            *certificate("peer-", "etcd"), f"--peer-trusted-ca-file={PKI}/ca.crt", "--peer-client-cert-auth",
        ],
        "kube-apiserver": [
            f"--bind-address={NODE_IP}", f"--advertise-address={NODE_IP}", "--secure-port=6443",
            "--etcd-servers=https://127.0.0.1:2379", f"--etcd-cafile={PKI}/ca.crt",
            f"--etcd-certfile={PKI}/etcd.crt", f"--etcd-keyfile={PKI}/etcd.key",
            f"--tls-cert-file={PKI}/apiserver.crt", f"--tls-private-key-file={PKI}/apiserver.key",
            f"--client-ca-file={PKI}/ca.crt", "--anonymous-auth=false", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={PKI}/service-accounts.key",
            f"--service-account-signing-key-file={PKI}/service-accounts.key",
            f"--kubelet-certificate-authority={PKI}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={PKI}/admin.crt", f"--kubelet-client-key={PKI}/admin.key",
            f"--requestheader-client-ca-file={PKI}/ca.crt", "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={PKI}/front-proxy.crt", f"--proxy-client-key-file={PKI}/front-proxy.key",
        ],
        "kube-controller-manager": [
            *three_times("controller-manager"), "--bind-address=127.0.0.1", "--leader-elect=false",
            f"--service-account-private-key-file={PKI}/service-accounts.key", f"--root-ca-file={PKI}/ca.crt",
            "--use-service-account-credentials", f"--cluster-cidr={PODS}", "--allocate-node-cidrs",
            "--node-cidr-mask-size=24", f"--service-cluster-ip-range={SERVICES}",
            f"--cluster-signing-cert-file={PKI}/ca.crt", f"--cluster-signing-key-file={PKI}/ca.key",
            "--horizontal-pod-autoscaler-sync-period=5s",
        ],
        "kube-scheduler": [*three_times("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false"],
        "kubelet": [
            f"--kubeconfig={client}/kubelet.conf", f"--config={STATE}/etc/kubelet.yaml", f"--root-dir={STATE}/kubelet",
            f"--cert-dir={PKI}", f"--hostname-override={NODE}", f"--node-ip={NODE_IP}",
        ],
        "kube-proxy": [f"--config={STATE}/etc/proxy.yaml"],
        "coredns": ["-conf", f"{STATE}/etc/Corefile"],
        "metrics-server": [
            *three_times("admin"), f"--bind-address={NODE_IP}", "--secure-port=4443",
            f"--cert-dir={STATE}/metrics-server",
            f"--kubelet-certificate-authority={PKI}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s", "--kubelet-request-timeout=5s",
        ],
        "storage-provisioner": [f"--kubeconfig={client}/admin.conf", f"--root={VOLUMES}"],
    }  # fmt: skip
    settings = key_of([TEMPLATES / "node"], PAUSE.reference)
    return [
        Daemon(name, command if name == "containerd" else [str(programs / name), *command], STATE, settings)
        for name, command in commands.items()
    ]
