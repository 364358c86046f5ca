"""Frames between the service and the worker: any blocks arrive as they were sent, and anything else is refused."""

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.worker import wire
from app.worker.wire import Block, GarbageError

SETTINGS = settings(max_examples=60, suppress_health_check=list(HealthCheck))
_DTYPES = st.sampled_from(["float64", "float32", "int64", "int32", "uint8", "bool", "datetime64[ns]"])
_CELLS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_JSON = st.lists(st.recursive(_CELLS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    if draw(st.booleans()):
        return Block([draw(st.text())], draw(_JSON), draw(st.sampled_from(["", "binary", "tensor:str"])))
    shape = draw(st.tuples(st.integers(0, 5), st.integers(0, 4)))
    array = draw(arrays.arrays(np.dtype(draw(_DTYPES)), shape))
    return Block(draw(st.lists(st.text(), min_size=shape[1], max_size=shape[1])), array)


def carried(header: dict[str, Any], sent: tuple[Block, ...]) -> tuple[dict[str, Any], tuple[Block, ...]]:
    """Return what arrives at the other end of a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        theirs.settimeout(60)  # a sender that fails sends nothing
        sender = pool.submit(wire.send, ours, header, sent)
        sender.add_done_callback(lambda done: ours.close() if done.exception() else None)
        try:
            return wire.receive(theirs)
        finally:
            sender.result()


@SETTINGS
@given(st.lists(blocks(), max_size=4), st.dictionaries(st.text(), _CELLS).filter(lambda it: "blocks" not in it))
def test_blocks_arrive_as_they_were_sent(sent: list[Block], header: dict[str, Any]) -> None:
    found, received = carried(header, tuple(sent))

    found.pop("blocks")
    assert found == header
    assert len(received) == len(sent)
    for ours, theirs in zip(sent, received, strict=True):
        assert (theirs.names, theirs.form) == (ours.names, ours.form)
        if isinstance(ours.values, list):
            assert theirs.values == ours.values
        else:
            assert isinstance(theirs.values, np.ndarray)
            assert (theirs.values.dtype, theirs.values.shape) == (ours.values.dtype, ours.values.shape)
            assert theirs.values.tobytes() == ours.values.tobytes()
            assert theirs.values.flags.writeable


def answered(data: bytes) -> None:
    """Receive data that the peer sent before it closed the connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(data)
        ours.close()
        wire.receive(theirs)


@SETTINGS
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((GarbageError, EOFError)):
        answered(data)


@SETTINGS
@given(st.data())
def test_changed_frame_is_refused_or_is_a_frame(data: st.DataObject) -> None:
    """One changed byte never leads to another error, or to memory beyond the frame."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, {"rows": 2}, (Block(["a"], np.ones((2, 1))), Block(["b"], ["x", None])))
        frame = bytearray(theirs.recv(1 << 16))
    place = data.draw(st.integers(16, len(frame) - 1))  # the lengths before are checked by the next test
    frame[place] ^= 1 << data.draw(st.integers(0, 7))

    with suppress(GarbageError, EOFError):
        answered(bytes(frame))


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<4sIQ", b"MSW0", 2, 0),
        struct.pack("<4sIQ", b"MSW1", 1 << 31, 0),
        struct.pack("<4sIQ", b"MSW1", 2, 1 << 60),
        struct.pack("<4sIQ", b"MSW1", 2, 0) + b"[]",
        struct.pack("<4sIQ", b"MSW1", 2, 0) + b"{}",
    ],
)
def test_invalid_head_is_refused_before_memory_is_allocated(head: bytes) -> None:
    with pytest.raises(GarbageError):
        answered(head)


def test_object_dtype_is_refused() -> None:
    header = b'{"blocks": [{"names": ["a"], "dtype": "|O", "shape": [1], "bytes": 8}]}'

    with pytest.raises(GarbageError, match=r"cannot be read|does not travel"):
        answered(struct.pack("<4sIQ", b"MSW1", len(header), 8) + header + b"\1" * 8)
