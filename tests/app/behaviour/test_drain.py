"""Shutdown of a pod under load without failed requests, as on Kubernetes, with real processes.

The test must run alone, because it keeps two cores busy for some seconds.
"""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.app.harness import COLUMNS, Running, running_service
from tools.loopback import answers, until

CLIENTS, GRACE_SECONDS = 8, 10
BODY = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]]}).encode()
LARGE = json.dumps({"columns": COLUMNS, "data": [[0.5, 0.25, 3]] * 1000}).encode()


@dataclass
class Client:
    """A client that sends sequential requests on a connection until the service announces its end.

    Like a Kubernetes Service, it opens connections only to a ready pod, and it never retries.
    """

    pods: list[Running]
    body: bytes
    pause: float
    answered: list[int] = field(default_factory=list)
    told: int = 0

    def run(self, stop: threading.Event) -> None:
        connection = self._connect()
        while not stop.is_set():
            connection.request("POST", "/predict", self.body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            assert len(json.loads(content)["predictions"]) == len(json.loads(self.body)["data"])
            port = connection.port
            self.answered.append(port)
            if answer.headers["Connection"] == "close":
                self.told += 1
                connection.close()
                connection = self._connect()
            stop.wait(self.pause)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        pod = next(pod for pod in self.pods if answers(f"{pod.address}/health/ready"))
        connection = http.client.HTTPConnection("127.0.0.1", pod.port, timeout=300)
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def test_pod_shutdown_under_load_fails_no_request(saved: Path, tmp_path: Path) -> None:
    places = [tmp_path / "old", tmp_path / "new"]
    for place in places:
        place.mkdir()
    limits = {"MODEL_SERVICE_SHUTDOWN_SECONDS": str(GRACE_SECONDS)}
    with (
        running_service(saved.as_uri(), places[0], **limits) as old,
        running_service(saved.as_uri(), places[1], **limits) as new,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        # Busy clients, some with rows for the thread, and clients with an idle connection.
        clients = [Client([old, new], LARGE if n % 4 == 3 else BODY, 0.5 if n % 2 else 0) for n in range(CLIENTS)]
        stop = threading.Event()
        running = [threads.submit(client.run, stop) for client in clients]
        try:
            until(lambda: all(len(client.answered) > 2 for client in clients) or any(job.done() for job in running))
            begin = time.monotonic()
            old.process.terminate()
            assert old.process.wait(GRACE_SECONDS) == 0
            assert time.monotonic() - begin < GRACE_SECONDS
            seen = [len(client.answered) for client in clients]
            until(lambda: all(len(c.answered) > n for c, n in zip(clients, seen, strict=True)))
        finally:
            stop.set()
        for job in running:
            job.result()

    for client in clients:
        assert client.answered[0] == old.port
        assert client.answered[-1] == new.port
        assert client.told == 1
