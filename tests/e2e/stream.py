"""Client that streams real rows to /predict at an even rate and counts failures.

It runs in a pod of the training image, which contains the data. `python3 stream.py HOST SECONDS SEED DRIFTED` prints
one JSON line. Each request uses a new connection, so that the Service distributes them over the pods.
"""

import json
import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

REQUESTS, ROWS = 600, 20


def columns() -> list[str]:
    """Return the column names in the order of the rows."""
    return [str(name) for name in load_breast_cancer().feature_names]


def rows(seed: int, *, drifted: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw rows of shape (REQUESTS * ROWS, 30). Drifted tumours are twice as large, and 10 % lack the first column."""
    random, names = np.random.default_rng(seed), columns()
    data = load_breast_cancer().data
    drawn: np.ndarray[Any, np.dtype[np.float32]] = data[random.integers(0, len(data), REQUESTS * ROWS)].astype("f4")
    if drifted:
        drawn[:, [i for i, name in enumerate(names) if "radius" in name or "area" in name]] *= np.float32(2)
        drawn[random.random(len(drawn)) < 0.1, 0] = np.nan
    return drawn


def _send(host: str, body: bytes) -> None:
    connection = HTTPConnection(host, timeout=10)
    try:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise HTTPException(f"status {answer.status}: {content[:300]!r}")
    finally:
        connection.close()


def main(host: str, seconds: float, seed: int, drifted: str) -> None:
    """Send all rows and print the counts."""
    failures, names, drawn = [], columns(), rows(seed, drifted=drifted == "drifted")
    started = time.monotonic()
    for number, batch in enumerate(np.split(drawn, REQUESTS)):
        time.sleep(max(0.0, started + seconds * number / REQUESTS - time.monotonic()))
        data = [[None if value != value else value for value in row] for row in batch.tolist()]
        try:
            _send(host, json.dumps({"columns": names, "data": data}).encode())
        except (OSError, HTTPException) as error:
            failures.append(repr(error))
    print(json.dumps({"sent": REQUESTS, "failures": len(failures), "reasons": failures[:5]}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
