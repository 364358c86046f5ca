"""A real OCI registry on loopback, for the rehearsal: the distribution project's, with its files in a folder."""

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster.console import wait_for
from tools.cluster.programs import registry


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_registry(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address of a registry that listens on loopback alone, and its process, so that a drill can kill it."""
    address = f"127.0.0.1:{_free_port()}"
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        command = [str(registry() / "registry"), "serve", str(folder / "config.yml")]
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait_for("the registry", lambda: _answers(address), timeout_seconds=20, remedy=f"See {folder}/log.")
                yield address, process
            finally:
                process.kill()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
