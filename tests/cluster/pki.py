"""The embedded cluster's certificates: one authority, one certificate per program, all files for root's eyes only."""

import shutil
from pathlib import Path

from tests.cluster.console import run

DAYS = "3650"


def issue(folder: Path, name: str, subject: str, alternative_names: str) -> None:
    """Write `<name>.key` and `<name>.crt`: of an authority when the name is `ca`, else signed by the folder's."""
    key, request, certificate = (folder / f"{name}.{suffix}" for suffix in ("key", "csr", "crt"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    valid = ["-days", DAYS, "-out", certificate]
    if name == "ca":
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        run(["openssl", "req", "-x509", *curve, *usage, *valid, "-keyout", key, "-subj", subject])
        return
    extensions = folder / f"{name}.ext"
    # Python 3.13 refuses certificates without the identifiers and usages that RFC 5280 asks for.
    extensions.write_text(
        f"subjectAltName={alternative_names}\nextendedKeyUsage=serverAuth,clientAuth\n"
        "keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    run(["openssl", "req", *curve, "-keyout", key, "-out", request, "-subj", subject])
    signer = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial"]
    run(["openssl", "x509", "-req", "-in", request, *signer, *valid, "-extfile", extensions])


def make_pki(folder: Path, node_name: str, node_ip: str, kubernetes_service_ip: str) -> None:
    """Write the authority and every certificate into `folder`, unless a complete set is there already."""
    if folder.is_dir():
        return
    work = folder.with_suffix(".making")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    api_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    api_server = ",".join([f"DNS:{name}" for name in api_names] + [f"IP:{kubernetes_service_ip}", f"IP:{node_ip}"])
    issue(work, "ca", "/CN=model-service-cluster", "")
    issue(work, "apiserver", "/CN=kube-apiserver", api_server)
    issue(work, "etcd", "/CN=etcd", "DNS:localhost,IP:127.0.0.1")
    issue(work, "kubelet", f"/O=system:nodes/CN=system:node:{node_name}", f"DNS:{node_name},IP:{node_ip}")
    for name, subject in {
        "admin": "/O=system:masters/CN=admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "proxy": "/CN=system:kube-proxy",
        "front-proxy": "/CN=front-proxy-client",
    }.items():
        issue(work, name, subject, f"DNS:{name}")
    run(
        [
            "openssl",
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            work / "service-accounts.key",
        ]
    )
    for path in work.iterdir():
        path.chmod(0o600)
    work.rename(folder)
