"""What is fuzzed: each target takes any bytes, and only the errors that its parser documents may come out."""

import json
from collections.abc import Callable

from app.endpoints.protocols.open_inference import tensors
from app.errors import ProblemError
from app.http import codings
from app.model import structure, ubjson
from app.model.arrow.rows import read_rows
from app.model.columns import Column
from app.model.rows import Reader
from app.model.signature import Signature

MOST_ROWS = 100
MOST_BYTES = 100_000
COLUMNS = [Column("a", "double"), Column("b", "long"), Column("c", "string", required=False)]


def model_file(data: bytes) -> None:
    """Parse a model file in UBJSON and check its structure."""
    try:
        structure.check(ubjson.read(data)["learner"])
    except (ValueError, KeyError, TypeError, IndexError):
        return


def body(data: bytes) -> None:
    """Read a request body, and its cells, with and without a column of text."""
    for columns in (COLUMNS[:2], COLUMNS):
        try:
            Reader(Signature(columns), MOST_ROWS).read(data).matrix()
        except ProblemError:
            continue


def tensors_of_a_request(data: bytes) -> None:
    """Read the inputs of the Open Inference Protocol: JSON up to the first zero byte, and binary data after it."""
    text, _, raw = data.partition(b"\0")
    try:
        entries = json.loads(text)
    except ValueError:
        return
    try:
        tensors.read(entries, memoryview(raw), MOST_ROWS)
    except ProblemError:
        return


def arrow_stream(data: bytes) -> None:
    """Read an Arrow stream, and its cells."""
    try:
        rows = read_rows(data, Signature(COLUMNS), MOST_ROWS)
        rows.payload()
        rows.matrix()
    except ProblemError:
        return


def compressed(data: bytes) -> None:
    """Decompress a body, whose first byte chooses the coding."""
    try:
        coding = codings.CODINGS[data[0] % len(codings.CODINGS)] if data else "gzip"
        assert len(codings.decoded(data[1:], coding, MOST_BYTES)) <= MOST_BYTES
    except ProblemError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "model_file": model_file,
    "body": body,
    "tensors": tensors_of_a_request,
    "arrow": arrow_stream,
    "compressed": compressed,
}
