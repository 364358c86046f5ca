"""A real S3 server for the tests."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster.programs import versitygw
from tools.loopback import free_port, until


@contextmanager
def s3_server(place: Path) -> Iterator[dict[str, str]]:
    """Serve the folders in `place` as buckets, and yield the variables that its clients need."""
    port = free_port()
    keys = {"ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": "something"}
    command = [str(versitygw() / "versitygw"), f"--port=127.0.0.1:{port}", "--quiet", "posix", str(place)]
    environment = os.environ | {f"ROOT_{name}": value for name, value in keys.items()}
    client = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with subprocess.Popen(command, env=environment) as server:
        try:
            until(lambda: _listens(port))
            yield client | {f"AWS_{name}": value for name, value in keys.items()}
        finally:
            server.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))
