"""A tensor whose claims are not true is refused before memory is taken for it."""

import tracemalloc

import pytest

from app.errors import ProblemError
from app.protocols import tensors

BODY = memoryview(bytes(8_000_000))
LITTLE = 100_000  # bytes, beside the eight millions of the body


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [
        ("FP64", [1000, 1001], 8_000_000),  # one column too many
        ("FP64", [1000, 2_000_000_000], 8_000_000),
        ("FP64", [1000, 1000], 8_000_001),  # of which a byte is not there
        ("FP64", [1001, 1000], 8_000_000),  # more rows than are taken
        ("BYTES", [1000, 2_000_000_000], 8_000_000),
    ],
)
def test_what_is_claimed_takes_no_memory(datatype: str, shape: list[int], size: int) -> None:
    entry = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError):
            tensors.read([entry], BODY, 1000)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def test_what_is_true_is_read_where_it_lies() -> None:
    entry = {"name": "x", "datatype": "FP64", "shape": [1000, 1000], "parameters": {"binary_data_size": 8_000_000}}
    tracemalloc.start()
    try:
        (found,) = tensors.read([entry], BODY, 1000)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    assert found.shape == (1000, 1000)
