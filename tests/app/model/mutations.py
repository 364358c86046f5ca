"""Damaged model files for tests: `python -m tests.app.model.mutations FILE FIRST END` loads and predicts each of them.

The program prints one line per file before it loads it, so that the last line names the file that ended the process.
"""

import random
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from app.model.booster import Booster, BoosterError, Matrix

ROWS = 24
_SECONDS = 60  # time limit of one file; SIGALRM ends the process
_MEMORY = 6 * 2**30
_INTEGERS = (-1, 0, 1, 2, 3, 7, 255, 2**15, 2**24, 2**31 - 1, -(2**31))


def mutated(content: bytes, number: int) -> bytes:
    """Return the content with damage that depends only on the number."""
    drawn = random.Random(number)  # noqa: S311
    data = bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 2, 5))):
        place = drawn.randrange(len(data))
        kind = drawn.randrange(7)
        if kind == 0:
            data[place] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            data[place] = drawn.randrange(256)
        elif kind == 2:
            data[place : place + 4] = drawn.choice(_INTEGERS).to_bytes(4, "big", signed=True)
        elif kind == 3:
            data[place : place + 8] = drawn.randrange(-2, 40).to_bytes(8, "big", signed=True)
        elif kind == 4:
            del data[place : place + drawn.randrange(1, 9)]
        elif kind == 5:
            other = drawn.randrange(len(data))
            data[place : place + 4] = data[other : other + 4]
        elif digits := [at for at, byte in enumerate(data) if 48 <= byte < 58]:
            data[drawn.choice(digits)] = drawn.choice(b"0123456789-.e")
    return bytes(data)


def outcome(content: bytes) -> str:
    """Load and predict several times; return refused, failed, served or differs."""
    try:
        booster = Booster(content)
    except (ValueError, BoosterError):
        return "refused"
    found = {_answers(booster, rows) for rows in _inputs(len(booster.features))}
    again = {_answers(booster, rows) for rows in _inputs(len(booster.features))}
    if found != again:
        return "differs"
    return "failed" if b"" in found else "served"


def _answers(booster: Booster, rows: Matrix) -> bytes:
    """Return the bytes of all answers to the rows, or none if XGBoost refuses; memory between the calls is dirtied."""
    found = []
    try:
        for function in (booster.predict, booster.margins, booster.contributions):
            found.append(
                np.ascontiguousarray(function(rows[:3] if function == booster.contributions else rows)).tobytes()
            )
            np.full(random.randrange(1, 200_000), random.random(), dtype=np.float32)  # noqa: S311
    except BoosterError:
        return b""
    return b"".join(found)


def _inputs(width: int) -> list[Matrix]:
    drawn = np.random.default_rng(width)
    usual = drawn.random((ROWS, width), dtype=np.float32) * drawn.choice([1, 3, 300], (ROWS, 1)).astype(np.float32)
    usual[:, ::3][::2] = np.floor(usual[:, ::3][::2])
    extreme = drawn.choice(np.array([np.nan, 0, -1, 1e38, -1e38, 2**31, 1, 2], dtype=np.float32), (ROWS, width))
    return [usual, extreme, np.full((1, width), np.nan, dtype=np.float32)]


def main(path: str, first: str, end: str) -> None:
    """Test the mutations with these numbers and print how many had which outcome."""
    content, counts = Path(path).read_bytes(), Counter[str]()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for number in range(int(first), int(end)):
        print(number, flush=True)
        signal.alarm(_SECONDS)
        found = outcome(mutated(content, number))
        counts[found] += 1
        assert found != "differs", f"mutation {number} of {path} answers differently from call to call"
    signal.alarm(0)
    print(dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
