"""Real databases and object stores of the kinds that clouds offer, on the loopback interface."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.charts import program
from tools.cluster.preflight import install_packages
from tools.loopback import free_port, until

AZURITE = "azurite@3.35.0"  # Microsoft's emulator, from npm
FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.0"
# The account of every Azurite, from its documentation.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _server(command: Sequence[str | Path], port: int, user: str | None = None) -> Iterator[None]:
    """Run a server while the body runs, which begins when the server listens."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log, user=user) as process:
        try:
            until(lambda: process.poll() is not None or _listens(port), seconds=60)
            log.seek(0)
            assert process.poll() is None, log.read().decode()
            yield
        finally:
            process.terminate()


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield host, port and name of an empty database, whose user and password are `mlflow`, as the end of a URI."""
    install_packages({"/usr/sbin/mariadbd": "mariadb-server"})
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))  # not the folder of pytest, which other users cannot enter
    port = free_port()
    root = os.geteuid() == 0
    user = "mysql" if root else pwd.getpwuid(os.geteuid()).pw_name
    if root:
        shutil.chown(folder, user)
    first = folder / "first.sql"
    statements = (  # one per line
        "CREATE DATABASE mlflow;",
        "CREATE USER mlflow@'%' IDENTIFIED BY 'mlflow';",
        "GRANT ALL ON mlflow.* TO mlflow@'%';",
        "CREATE USER reader@'%' IDENTIFIED BY 'mlflow';",
    )
    first.write_text("\n".join(statements))
    try:
        options = [f"--datadir={folder}/data", f"--user={user}"]
        subprocess.run(["mariadb-install-db", "--no-defaults", *options], check=True, capture_output=True, timeout=300)
        command = [
            "/usr/sbin/mariadbd",
            "--no-defaults",
            *options,
            "--bind-address=127.0.0.1",
            f"--port={port}",
            "--skip-name-resolve",
        ]
        command += [f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={first}"]
        with _server(command, port, user if root else None):
            yield f"127.0.0.1:{port}/mlflow"
    finally:
        shutil.rmtree(folder)


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """Yield the connection string of Azure Blob Storage without containers."""
    port = free_port()
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", f"--prefix={folder}", AZURITE],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    command: list[str | Path] = [folder / "node_modules" / ".bin" / "azurite-blob", "--silent", "--skipApiVersionCheck"]
    with _server([*command, f"--blobPort={port}", f"--location={folder}"], port):
        endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        yield f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint};"


@contextmanager
def google_storage(folder: Path) -> Iterator[str]:
    """Yield the URL of Google Cloud Storage with one empty bucket, `models`."""
    port = free_port()
    environment = {**os.environ, "GOBIN": str(folder)}
    subprocess.run([program("go"), "install", FAKE_GCS], env=environment, check=True, capture_output=True, timeout=900)
    (folder / "data" / "models").mkdir(parents=True)
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        folder / "fake-gcs-server",
        "-scheme=http",
        "-host=127.0.0.1",
        f"-port={port}",
        "-backend=memory",
    ]
    with _server([*command, f"-data={folder}/data", f"-external-url={url}"], port):
        yield url
