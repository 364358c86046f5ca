"""Shared tools of the service's tests, which run it in this process or in a separate one."""

import asyncio
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import http_sf
from starlette.testclient import TestClient

from app.http.server import Connection, Server, make_server
from app.logs import JsonFormatter
from app.main import create_app
from app.model.contract import CONTRACT_FILE
from app.service import Service
from app.settings import Settings
from tools.loopback import answers, free_port, until

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


@contextmanager
def serving(settings: Settings, seconds: float = 30) -> Iterator[TestClient]:
    """Yield a client of the service once its model is loaded, which may take some seconds."""
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        until(lambda: not app.state.service.reasons, seconds)
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
    """The service on a port of this event loop, for clients that are plain sockets."""

    service: Service
    port: int
    server: Server

    @property
    def connections(self) -> set[Connection]:
        return cast(set[Connection], self.server.server_state.connections)

    def end(self) -> None:
        """Start the shutdown, like SIGTERM."""
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
    """Wait until the condition holds, or fail after the time limit."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def process(arguments: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program of this environment, and stop it afterwards."""
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
                os.killpg(running.pid, signal.SIGKILL)  # including its workers
                running.wait()


def environment(uri: str, tmp_path: Path, **changes: str) -> dict[str, str]:
    """Return the environment variables of a service in a separate process."""
    return {
        "MODEL_SERVICE_MODEL_URI": uri,
        "MODEL_SERVICE_CACHE_DIR": str(tmp_path / "cache"),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
        "MODEL_SERVICE_PORT": str(free_port()),
    } | changes


@dataclass(frozen=True)
class Running:
    """The service in a separate process."""

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
        until(lambda: answers(f"{here.address}/health/ready"))  # importing MLflow takes 20 s on a busy machine
        yield here


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that contains, after the block, all log lines of the service."""
    lines: list[dict[str, Any]] = []
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        lines += map(json.loads, handler.stream.getvalue().splitlines())


def structured(value: bytes) -> dict[str, Any]:
    """Return the items of a structured field (RFC 9651) with their parameters."""
    items: Any = http_sf.parse(value, tltype="list")
    return dict(items)


def silent_server() -> str:
    """Return the address of a port that accepts connections and never responds, for the lifetime of the process."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    listener.detach()
    return f"http://127.0.0.1:{port}"


@contextmanager
def audited(event: str) -> Iterator[list[str]]:
    """Yield a list of the paths for which Python raises an audit event, such as "open", within the block."""
    paths: list[str] = []
    active = True

    def hook(raised: str, arguments: tuple[Any, ...]) -> None:
        if active and raised == event:
            paths.append(str(arguments[0]))

    sys.addaudithook(hook)
    try:
        yield paths
    finally:
        active = False  # audit hooks cannot be removed
