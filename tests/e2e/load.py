"""Request generator for /predict that counts failures.

It runs in a pod of the service image with only the standard library: `python3 load.py HOST CLIENTS SECONDS REQUESTS`
ends after SECONDS or REQUESTS, whichever comes first, and prints one JSON line: requests, failures (with up to five
reasons) and requests per second. Each request uses a new connection, so the Service may route it to a terminating pod.
"""

import json
import socket
import struct
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException


def _call(host: str, method: str, path: str, body: bytes | None) -> bytes:
    connection = HTTPConnection(host, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise HTTPException(f"status {answer.status}")
        # Close with a reset, because ports in TIME_WAIT would run out at 470 new connections per second.
        if connection.sock:  # None if the server has closed the connection
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return content
    finally:
        connection.close()


def main(host: str, clients: int, seconds: float, requests: int) -> None:
    """Run the clients and print their counts."""
    example = json.dumps(json.loads(_call(host, "GET", "/model", None))["input_example"]).encode()
    started, lock = time.monotonic(), threading.Lock()
    sent, failures = 0, []

    def client() -> None:
        nonlocal sent
        while time.monotonic() - started < seconds:
            with lock:
                if sent >= requests:
                    return
                sent += 1
            try:
                _call(host, "POST", "/predict", example)
            except (OSError, HTTPException) as error:
                with lock:
                    failures.append(f"{time.monotonic() - started:.1f} s: {error!r}")

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = {"requests": sent, "failures": len(failures), "reasons": failures[:5]}
    print(json.dumps({**result, "per_second": round(sent / (time.monotonic() - started), 1)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
