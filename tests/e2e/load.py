"""Load on /predict that records every failure.

It runs in a pod of the service image with only the standard library: `python3 load.py HOST CLIENTS RATE LEAST [ROWS]`
sends RATE requests per second with each of CLIENTS clients (0: without pauses), until it gets SIGTERM and has sent
LEAST requests. They contain the rows of the JSON file ROWS (`columns` and `data`) in turn, or the input example, and
the API key of the environment variable KEY.
It then prints one JSON line: requests, refused (429 or 503 with Retry-After), failures, the first reasons, the seconds
from the first failure to the last, the slowest response in seconds, and requests per second. No request is repeated.

Of two clients, one keeps its connection for 100 requests, as a connection pool does. The other opens a new connection
for each request, so the Service may route it to a pod that is shutting down.
"""

import itertools
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

KEPT = 100  # requests on a connection
LIMIT_SECONDS = 10.0  # for a response
HEADERS = {"Content-Type": "application/json"}
if os.environ.get("KEY"):
    HEADERS["Authorization"] = f"Bearer {os.environ['KEY']}"


class Client:
    """A client of one service.

    Args:
        host: Host, with a port if it is not 80.
        kept: Number of requests on a connection.
    """

    def __init__(self, host: str, kept: int) -> None:
        self._host, self._kept = host, kept
        self._connection = HTTPConnection(host, timeout=LIMIT_SECONDS)
        self._used = 0

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
        """Return the response and its body.

        Raises:
            OSError, HTTPException: The response is missing or incomplete.
        """
        try:
            self._connection.request(method, path, body, HEADERS)
            if not self._used and self._connection.sock:
                # Close with a reset, because ports in TIME_WAIT would run out at 470 new connections per second.
                linger = struct.pack("ii", 1, 0)
                self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            self._close()
            raise
        self._used += 1
        if self._used >= self._kept:
            self._close()
        return answer, content

    def _close(self) -> None:
        self._connection.close()
        self._used = 0


class Load:
    """The clients and their counts."""

    def __init__(self, host: str, clients: int, rate: float, least: int, rows: str) -> None:
        self._host, self._clients, self._rate, self._least = host, clients, rate, least
        self._bodies = self._read(rows)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._sent = self._refused = 0
        self._failures: list[tuple[float, str]] = []
        self._slowest = 0.0

    def _read(self, rows: str) -> list[bytes]:
        if rows:
            found = json.loads(Path(rows).read_text())
            bodies = [{"columns": found["columns"], "data": [row]} for row in found["data"]]
        else:
            bodies = [json.loads(Client(self._host, 1).call("GET", "/model")[1])["input_example"]]
        return [json.dumps(body).encode() for body in bodies]

    def run(self) -> None:
        """Run the clients and print their counts."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        started = time.monotonic()
        clients = [
            threading.Thread(target=self._send, args=(Client(self._host, (KEPT, 1)[number % 2]), number))
            for number in range(self._clients)
        ]
        for client in clients:
            client.start()
        print("the load has begun", flush=True)
        for client in clients:
            client.join()
        seconds = time.monotonic() - started
        times = [at for at, _ in self._failures]
        counts = {
            "requests": self._sent,
            "refused": self._refused,
            "failures": len(times),
            "reasons": [f"{at - started:.1f} s: {reason}" for at, reason in self._failures[:5]],
            "failing_seconds": round(max(times) - min(times), 1) if times else 0,
            "slowest_seconds": round(self._slowest, 2),
            "per_second": round(self._sent / seconds, 1),
        }
        print(json.dumps(counts))

    def _send(self, client: Client, number: int) -> None:
        due = time.monotonic()
        bodies = itertools.cycle(self._bodies[number:] + self._bodies[:number])  # not the same rows as the others
        while not (self._stop.is_set() and self._sent >= self._least):
            if self._rate:
                due = max(due + 1 / self._rate, time.monotonic() - 1)  # do not catch up with a longer pause
                time.sleep(max(0.0, due - time.monotonic()))
            begun, reason, refused = time.monotonic(), "", False
            try:
                answer, _ = client.call("POST", "/predict", next(bodies))
                refused = answer.status in (429, 503) and bool(answer.headers["Retry-After"])
                if answer.status != 200 and not refused:
                    reason = f"status {answer.status}"
            except (OSError, HTTPException) as error:
                reason = repr(error)
            ended = time.monotonic()
            with self._lock:
                self._sent += 1
                self._refused += refused
                self._slowest = max(self._slowest, ended - begun)
                if reason:
                    self._failures.append((ended, reason))


if __name__ == "__main__":
    Load(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), "".join(sys.argv[5:])).run()
