"""Containers as restrictive platforms run them: a read-only root, no capabilities, and a user that no image knows."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tools.cluster import engine
from tools.cluster.console import Failure, wait_for

# OpenShift chooses such a user, with group 0.
RESTRICTED = (
    "--user=54321:0", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777",
)  # fmt: skip


def inspect(container: str) -> dict[str, Any]:
    """Return what the engine knows of a container."""
    return dict(json.loads(engine.docker("inspect", container))[0])


def address(container: str) -> str:
    """Return the address of a container for other containers."""
    return str(inspect(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


@contextmanager
def running(image: str, port: int, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Run a server and yield its container and its URL on this machine, when its HEALTHCHECK is healthy.

    Raises:
        Failure: The container ended or did not become healthy; with its log.
    """
    publish = f"--publish=127.0.0.1::{port}"
    container = engine.docker("run", "--detach", publish, *RESTRICTED, *options, image, *arguments).strip()

    def healthy() -> bool:
        state = inspect(container)["State"]
        if state["Status"] != "running":
            raise Failure(f"it ended with code {state['ExitCode']}")
        return bool(state["Health"]["Status"] == "healthy")

    try:
        try:
            wait_for(f"HEALTHCHECK of {image}", healthy, timeout_seconds=300, remedy="")
        except Failure as failure:
            raise Failure(f"{failure}\n{engine.docker('logs', '--tail', '30', container)}") from failure
        yield container, f"http://{engine.docker('port', container, f'{port}/tcp').split()[0]}"
    finally:
        engine.docker("rm", "--force", "--volumes", container)


def stop(container: str) -> tuple[int, float]:
    """Send SIGTERM and return the exit code, and the seconds until the container ended."""
    started = time.monotonic()
    engine.docker("stop", "--time", "60", container)
    return int(inspect(container)["State"]["ExitCode"]), time.monotonic() - started
