"""Limits and shutdown of the HTTP server: clients that stall, never finish, or stay connected."""

import asyncio
import gc
import json
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.context import CALLER
from app.http.server import MOST_HEAD_BYTES
from tests.app.harness import COLUMNS, Listening, eventually, listening, settings_for

BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(BODY)
PING = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

Scenario = Callable[[Listening], Awaitable[Any]]


def run(saved: Path, tmp_path: Path, scenario: Scenario, **changes: Any) -> Any:
    async def serve() -> Any:
        async with listening(settings_for(saved.as_uri(), tmp_path, **changes)) as here:
            return await scenario(here)

    return asyncio.run(serve())


async def exchange(here: Listening, *pieces: bytes) -> bytes:
    """Send the pieces with pauses in between, and return everything received until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def pieces(caller: socket.socket) -> AsyncIterator[bytes]:
    """Yield the data that remains in the socket's buffer after the server has closed the connection."""
    with suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(caller, 1 << 16):
            yield piece


def problem(answer: bytes) -> dict[str, Any]:
    """Return the problem in a response, after checking that the response closes the connection."""
    head, _, content = answer.partition(b"\r\n\r\n")
    fields = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in fields
    assert b"connection: close" in fields
    found: dict[str, Any] = json.loads(content)
    assert b"x-request-id: " + found["request_id"].encode() in fields
    return found


def test_pipelined_request_inherits_no_context(saved: Path, tmp_path: Path) -> None:
    async def pipeline(here: Listening) -> list[str]:
        inner, seen = here.server.config.loaded_app, []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            seen.append(CALLER.get())
            CALLER.set("web")
            await inner(scope, receive, send)

        here.server.config.loaded_app = application
        await exchange(here, PING + PING.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        return seen

    assert run(saved, tmp_path, pipeline) == ["", ""]


@pytest.mark.parametrize("sent", [b"GET", b"POST /predict HTTP/1.1\r\nHost: x\r\nX: "])
def test_headers_that_do_not_arrive_return_408(saved: Path, tmp_path: Path, sent: bytes) -> None:
    answer = run(saved, tmp_path, lambda here: exchange(here, sent), body_timeout_seconds=0.5)

    assert problem(answer)["detail"] == "The headers did not arrive in time."
    assert problem(answer)["status"] == 408


def test_slow_headers_also_time_out_after_a_response(saved: Path, tmp_path: Path) -> None:
    async def drip(here: Listening) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(PING)
        await reader.readuntil(b'"alive"}')
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        writer.close()
        with suppress(ConnectionResetError):  # the server does not read data after the 408
            assert problem(await ended)["status"] == 408

    run(saved, tmp_path, drip, body_timeout_seconds=0.5)


def test_silent_connection_is_closed(saved: Path, tmp_path: Path) -> None:
    assert run(saved, tmp_path, exchange, keep_alive_seconds=1) == b""


def test_endless_headers_return_431(saved: Path, tmp_path: Path) -> None:
    pieces = [b"GET / HTTP/1.1\r\nX: ", *[b"x" * 8192] * (MOST_HEAD_BYTES // 8192 + 1)]

    answer = run(saved, tmp_path, lambda here: exchange(here, *pieces))

    assert problem(answer)["status"] == 431
    assert problem(answer)["detail"] == f"The headers are larger than the limit of {MOST_HEAD_BYTES} bytes."


def test_endless_trailers_close_the_connection(saved: Path, tmp_path: Path) -> None:
    async def send(here: Listening) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
        sent = 0
        try:
            while not reader.at_eof():
                writer.write(b"a: " + b"x" * 4096 + b"\r\n")
                sent += 4096
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        return sent

    assert run(saved, tmp_path, send, max_body_bytes=1000) < 10_000_000


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)
def test_malformed_http_returns_a_problem(saved: Path, tmp_path: Path, sent: bytes) -> None:
    assert problem(run(saved, tmp_path, lambda here: exchange(here, sent)))["status"] == 400


@pytest.mark.parametrize("cut", [None, 40, 150, 200])
def test_http_2_upgrade_is_ignored(saved: Path, tmp_path: Path, cut: int | None) -> None:
    """Send the Upgrade header of the first request of Java's client."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    sent = POST + offer + b"\r\n" + BODY
    last = POST + b"Connection: close\r\n\r\n" + BODY

    answer = run(saved, tmp_path, lambda here: exchange(here, sent[:cut], sent[cut:] if cut else b"", last))

    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'"predictions"') == 2


def test_client_that_does_not_read_the_response_is_disconnected(saved: Path, tmp_path: Path) -> None:
    rows = 100_000
    body = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]] * rows}).encode()

    async def stall(here: Listening) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            await loop.sock_connect(caller, ("127.0.0.1", here.port))
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            await loop.sock_sendall(caller, head + body)
            await eventually(lambda: any(c.transport.get_write_buffer_size() for c in here.connections))
            await eventually(lambda: not here.connections)
            received = b"".join([piece async for piece in pieces(caller)])
            head, _, content = received.partition(b"\r\n\r\n")
            assert len(content) < int(head.split(b"content-length: ")[1].split()[0])

    run(saved, tmp_path, stall, max_rows=rows, max_body_bytes=10**8, body_timeout_seconds=0.5)


def test_drain_closes_connections_after_their_next_response(saved: Path, tmp_path: Path) -> None:
    async def stay(here: Listening) -> tuple[bytes, bytes]:
        idle, halfway = [await asyncio.open_connection("127.0.0.1", here.port) for _ in range(2)]
        idle[1].write(PING)
        await idle[0].readuntil(b'"alive"}')
        halfway[1].write(POST)
        await eventually(lambda: any(c.in_head for c in here.connections))

        here.end()
        await asyncio.sleep(0.2)
        halfway[1].write(b"\r\n" + BODY)
        idle[1].write(POST + b"\r\n" + BODY)
        answers = await idle[0].read(), await halfway[0].read()
        for _, writer in (idle, halfway):
            writer.close()
        return answers

    for answer in run(saved, tmp_path, stay):
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nconnection: close\r\n" in answer
        assert b'"predictions"' in answer


def test_reset_connection_leaves_nothing_behind(saved: Path, tmp_path: Path) -> None:
    async def scenario(here: Listening) -> weakref.ref[Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(PING)
        await reader.readuntil(b"alive")
        (connection,) = here.connections
        kept = weakref.ref(connection)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        await eventually(lambda: not here.connections)
        del connection
        gc.collect()
        return kept

    assert run(saved, tmp_path, scenario, keep_alive_seconds=60)() is None


HOST = b"Host: x\r\n"


@pytest.mark.parametrize(("hosts", "count"), [(b"", 0), (HOST * 2, 2), (HOST + b"HOST: y\r\n", 2)])
@pytest.mark.parametrize("request_", [PING, POST + b"\r\n" + BODY], ids=["GET", "POST"])
def test_request_needs_exactly_one_host(saved: Path, tmp_path: Path, request_: bytes, hosts: bytes, count: int) -> None:
    answer = run(saved, tmp_path, lambda here: exchange(here, request_.replace(HOST, hosts) + PING))

    assert answer.count(b"HTTP/1.1") == 1
    assert problem(answer)["detail"] == f"The request has {count} Host headers; send one."


def test_http_1_0_needs_no_host(saved: Path, tmp_path: Path) -> None:
    """Health checks of load balancers send such requests."""
    answer = run(saved, tmp_path, lambda here: exchange(here, PING.replace(b"1.1", b"1.0").replace(HOST, b"")))

    assert answer.startswith(b"HTTP/1.1 200 OK")
