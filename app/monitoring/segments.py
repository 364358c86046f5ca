"""Segments of the inference log: files of blocks, which the service writes and `python -m training ship` reads.

A block is a head and a MessagePack document. The head contains the length and the CRC-32 of the document, by which a
reader recognizes a block that a kill has cut off.
"""

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from app.model.booster import Category

OPEN, CLOSED = ".open", ".segment"  # suffixes of the files

_HEAD = struct.Struct(">4sII")  # magic, length, CRC-32
_MAGIC = b"MSL1"


class LoggedColumn(msgspec.Struct, frozen=True):
    """A column of the model that is logged.

    Args:
        name: Name of the column.
        type: MLflow's name of the type.
        categories: Categories in the order of their codes.
        narrow: Whether the model computes with 32-bit numbers.
        shape: Whether a cell is a tensor.
    """

    name: str
    type: str
    categories: tuple[Category, ...] = ()
    narrow: bool = True
    shape: bool = False


class LoggedModel(msgspec.Struct, frozen=True, tag="model"):
    """The model of the blocks that follow.

    Args:
        number: Number by which they name it, unique in its segment.
        name: Name of the model.
        version: Its version.
        sha256: Its digest.
        columns: Its columns without the redacted ones.
        task: Task of its output.
        form: Form of its predictions.
        classes: Classes of a classifier.
        width: Number of values per row.
        names: Names of these values.
    """

    number: int
    name: str
    version: str
    sha256: str
    columns: tuple[LoggedColumn, ...]
    task: str
    form: str
    classes: tuple[str, ...]
    width: int
    names: tuple[str, ...]


class LoggedPredictions(msgspec.Struct, frozen=True, tag="predictions"):
    """Requests with their rows and predictions, in the order of their completion.

    Args:
        model: Number of the model.
        times: Time of each response, in seconds since 1970: float64, shape (requests,).
        seconds: Duration of each request: float32, shape (requests,).
        counts: Rows of each request: uint32, shape (requests,).
        request_ids: ID of each request.
        owners: Caller of each request; empty if it is not known.
        tokens: The first `TOKEN_PART` characters of each row's token, in one text per request; empty without tokens.
        matrix: Rows as the booster takes them: float32, shape (rows, columns). Empty if `cells` has them.
        cells: JSON of the rows of each request: a list of lists in the order of the columns.
        numbers: Numbers of a booster: float32, shape (rows, width). Empty if `values` has them.
        values: JSON of the predictions of each request.
    """

    model: int
    times: bytes
    seconds: bytes
    counts: bytes
    request_ids: list[str]
    owners: list[str]
    tokens: list[str]
    matrix: bytes = b""
    cells: list[bytes] = []
    numbers: bytes = b""
    values: list[bytes] = []


class LoggedLabel(msgspec.Struct, frozen=True, array_like=True):
    """A label that was scored.

    Args:
        time: Time of its arrival, in seconds since 1970.
        prediction_id: Identity of the prediction, in hexadecimal digits.
        name: Name of the model.
        version: Version of the model that predicted.
        request_id: ID of the request with the label.
        owner: Caller of that request; empty if it is not known.
        label: Name of the class, or a number.
    """

    time: float
    prediction_id: str
    name: str
    version: str
    request_id: str
    owner: str
    label: str | float


class LoggedLabels(msgspec.Struct, frozen=True, tag="labels"):
    """Labels in the order of their arrival."""

    labels: list[LoggedLabel]


Block = LoggedModel | LoggedPredictions | LoggedLabels
TOKEN_PART = 20  # characters of a token that contain its identity

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Block)


def encoded(block: Block) -> tuple[bytes, bytes]:
    """Return the head and the document of a block."""
    content = _ENCODER.encode(block)
    return _HEAD.pack(_MAGIC, len(content), zlib.crc32(content)), content


def blocks(content: bytes) -> Iterator[Block]:
    """Yield the blocks of a segment, up to the first one that is not complete."""
    start = 0
    while start + _HEAD.size <= len(content):
        magic, length, crc = _HEAD.unpack_from(content, start)
        start += _HEAD.size
        document = content[start : start + length]
        start += length
        if magic != _MAGIC or len(document) < length or zlib.crc32(document) != crc:
            return
        yield _DECODER.decode(document)


def identities(tokens: str) -> list[str]:
    """Return the identity of each token in `LoggedPredictions.tokens`, in hexadecimal digits."""
    parts = (tokens[start : start + TOKEN_PART] for start in range(0, len(tokens), TOKEN_PART))
    return [base64.urlsafe_b64decode(part)[1:13].hex() for part in parts]


def closed(folder: Path) -> list[Path]:
    """Return the segments that are no longer written, oldest first."""
    return sorted(folder.glob(f"*{CLOSED}"))
