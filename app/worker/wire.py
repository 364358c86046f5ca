"""Frames between the service and the worker: a JSON header, followed by columns as raw bytes.

Numbers travel as the bytes of a NumPy array, all columns of one type together, because a data frame is made from such a
block in a fifth of the time that separate columns take, and in a fifteenth of the time that JSON takes. Text and nested
values travel as JSON. The format needs only NumPy: mlflow-skinny does not install pyarrow.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
_HEAD = struct.Struct("<4sIQ")  # magic number, bytes of the header, bytes of the body
_MAGIC = b"MSW1"
_MOST_HEADER = 64 << 20
_MOST_BODY = 4 << 30
_ALIGNMENT = 8
_NUMERIC = "biufM"  # kinds of NumPy's types that travel as bytes: booleans, numbers, dates


class GarbageError(ValueError):
    """The peer sent something that is not a frame."""


class Block(NamedTuple):
    """Columns of one type.

    Args:
        names: Names of the columns.
        values: An array, shape (rows, columns) for several columns, or a list with one JSON value per row.
        form: Further conversion that the receiver applies to JSON values, such as base64.
    """

    names: list[str]
    values: np.ndarray[Any, Any] | list[Any]
    form: str = ""


def send(connection: socket.socket, header: dict[str, Any], blocks: tuple[Block, ...] = ()) -> None:
    """Send one frame.

    Raises:
        OSError: The connection is closed, or its time limit passed.
    """
    described, pieces = [], []
    for block in blocks:
        if isinstance(block.values, list):
            content: Any = json.dumps(block.values).encode()
            entry = {"names": block.names, "form": block.form}
        else:
            array = np.ascontiguousarray(block.values)
            numbers = array.view(np.int64) if array.dtype.kind == "M" else array
            content = numbers.data.cast("B") if array.size else b""  # a view without elements cannot be cast
            entry = {"names": block.names, "dtype": array.dtype.str, "shape": array.shape}
        described.append({**entry, "bytes": len(content)})
        pieces += [content, b"\0" * (-len(content) % _ALIGNMENT)]
    text = json.dumps({**header, "blocks": described}).encode()
    body = sum(map(len, pieces))
    connection.sendall(b"".join([_HEAD.pack(_MAGIC, len(text), body), text, *pieces]))


def receive(connection: socket.socket) -> tuple[dict[str, Any], tuple[Block, ...]]:
    """Receive one frame.

    Raises:
        EOFError: The peer closed the connection.
        GarbageError: It sent something else.
        OSError: The connection failed, or its time limit passed.
    """
    magic, size, body = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if magic != _MAGIC or size > _MOST_HEADER or body > _MOST_BODY:
        raise GarbageError("the data are not a frame")
    try:
        header = json.loads(bytes(_exactly(connection, size)))
        content = memoryview(_exactly(connection, body))
        blocks, start = [], 0
        for entry in header["blocks"]:
            end = start + entry["bytes"]
            if not start <= end <= len(content):
                raise GarbageError("a block is longer than its frame")
            blocks.append(_block(entry, content[start:end]))
            start = end + -end % _ALIGNMENT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GarbageError(f"a frame cannot be read ({type(error).__name__})") from None
    return header, tuple(blocks)


def _block(entry: dict[str, Any], content: memoryview) -> Block:
    names = entry["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GarbageError("a block has no names")
    if "dtype" not in entry:
        values = json.loads(bytes(content))
        if not isinstance(values, list):
            raise GarbageError("a block of JSON is not a list")
        return Block(names, values, str(entry["form"]))
    kind = np.dtype(entry["dtype"])
    if kind.kind not in _NUMERIC:
        raise GarbageError("a block has a type that does not travel as bytes")
    return Block(names, np.frombuffer(content, dtype=kind).reshape(entry["shape"]))


def _exactly(connection: socket.socket, size: int) -> bytearray:
    """Return the next `size` bytes, in memory that can be written to, because some models change their input."""
    found = bytearray(size)
    rest = memoryview(found)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError("the connection was closed")
        rest = rest[count:]
    return found
