"""Certificates of a private authority."""

from pathlib import Path

from tools.cluster.console import run

DAYS = "3650"


def issue(folder: Path, name: str, subject: str, alternative_names: str) -> None:
    """Write `<name>.key` and `<name>.crt`: an authority if the name is `ca`, otherwise signed by the folder's."""
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
