"""A real PostgreSQL server for MLflow, run by an unprivileged user on the loopback interface."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster.preflight import install_packages

VERSIONS = Path("/usr/lib/postgresql")


@contextmanager
def database() -> Iterator[str]:
    """Yield the URI of an empty database, which is removed afterwards."""
    install_packages({str(VERSIONS): "postgresql"})
    programs = max(VERSIONS.glob("*/bin"), key=lambda path: float(path.parent.name))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # not the folder of pytest, which other users cannot enter
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        shutil.chown(folder, user)

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments], user=user if os.geteuid() == 0 else None,
            cwd=folder, capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    data, log = str(folder / "data"), str(folder / "log")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    try:
        call("initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--no-sync", "-E", "UTF8")
        call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "-s", "start")
        try:
            yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
