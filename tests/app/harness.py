"""What the tests of the service share: how to run it, in this process and in one of its own."""

import asyncio
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from starlette.testclient import TestClient

from app.contract import CONTRACT_FILE
from app.loading import Service
from app.logs import JsonFormatter
from app.main import create_app
from app.server import Connection, Server, make_server
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["mean radius", "texture", "count"]
CLASSES = ["malignant", "benign"]
MODEL = "breast-cancer"
SERVICE = ["-m", "app"]


def write_contract(folder: Path, **changes: Any) -> None:
    contract = {"schema_version": 1, "task": "binary", "target": "diagnosis", "classes": CLASSES} | changes
    (folder / CONTRACT_FILE).write_text(json.dumps(contract))


def settings_for(uri: str, tmp_path: Path, **changes: Any) -> Settings:
    places = {"cache_dir": tmp_path / "cache", "termination_message_path": tmp_path / "termination"}
    return Settings(**{"model_uri": uri, "load_timeout_seconds": 30, **places, **changes})


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Return the first true result, or fail when the clock runs out."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
    return result


@contextmanager
def serving(settings: Settings) -> Iterator[TestClient]:
    """Yield a client of the service once its model is loaded."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        yield client


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Listening:
    """The service on a port of this event loop; callers are sockets, which may be slow or leave."""

    service: Service
    port: int
    server: Server

    @property
    def connections(self) -> set[Connection]:
        return cast(set[Connection], self.server.server_state.connections)

    def end(self) -> None:
        """Do what SIGTERM does."""
        self.server.handle_exit(signal.SIGTERM, None)

    async def send(self, method: str, path: str, body: bytes = b"", *, announced: int = -1) -> asyncio.StreamWriter:
        return (await self._send(method, path, body, announced))[1]

    async def ask(self, method: str, path: str, body: bytes = b"", *, announced: int = -1) -> Answer:
        reader, writer = await self._send(method, path, body, announced)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        content = await reader.readexactly(int(headers["content-length"]))
        writer.close()
        return Answer(int(head[0].split()[1]), headers, content)

    async def _send(
        self, method: str, path: str, body: bytes, announced: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        length = len(body) if announced < 0 else announced
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + body)
        await writer.drain()
        return reader, writer


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Listening]:
    """Yield the service behind uvicorn once its model is loaded."""
    app = create_app(settings.model_copy(update={"port": free_port(), "host": "127.0.0.1"}))
    server = make_server(app, app.state.service)
    running = asyncio.create_task(server.serve())
    service: Service = app.state.service
    try:
        await eventually(lambda: server.started and not service.reasons)
        yield Listening(service, service.settings.port, server)
    finally:
        server.should_exit = True
        await running


async def eventually(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Let the event loop turn until the condition holds, or fail when the clock runs out."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(arguments: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program of this environment, and end it afterwards."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODEL_SERVICE_"))}
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=clean | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # with its workers
                running.wait()


def environment(uri: str, tmp_path: Path, **changes: str) -> dict[str, str]:
    """The variables of a service of its own process."""
    return {
        "MODEL_SERVICE_MODEL_URI": uri,
        "MODEL_SERVICE_CACHE_DIR": str(tmp_path / "cache"),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
        "MODEL_SERVICE_PORT": str(free_port()),
    } | changes


@dataclass(frozen=True)
class Running:
    """The service in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_service(uri: str, tmp_path: Path, **changes: str) -> Iterator[Running]:
    """Yield the service once its model is loaded."""
    variables = environment(uri, tmp_path, **changes)
    log = tmp_path / "log"
    with process(SERVICE, log, **variables) as started:
        here = Running(started, int(variables["MODEL_SERVICE_PORT"]), log)
        until(lambda: answers(f"{here.address}/health/ready"), 120)  # pyfunc imports MLflow: 20 s on a busy machine
        yield here


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that has, afterwards, each line that the service has logged, as it writes them."""
    lines: list[dict[str, Any]] = []
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        lines += map(json.loads, handler.stream.getvalue().splitlines())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a test's own server
            return bool(response.status == 200)
    except OSError:
        return False


def silent_server() -> str:
    """A port that takes connections and never answers; it lives as long as the process."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    listener.detach()
    return f"http://127.0.0.1:{port}"
