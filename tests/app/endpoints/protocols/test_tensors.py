"""Tensors with false sizes are rejected before memory is allocated for them."""

import tracemalloc

import pytest

from app.endpoints.protocols.open_inference import tensors
from app.errors import ProblemError

BODY = memoryview(bytes(8_000_000))
LITTLE = 100_000  # bytes, compared with 8 million bytes in the body


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [
        ("FP64", [1000, 1001], 8_000_000),  # one column too many
        ("FP64", [1000, 2_000_000_000], 8_000_000),
        ("FP64", [1000, 1000], 8_000_001),  # one byte more than the body has
        ("FP64", [1001, 1000], 8_000_000),  # more rows than allowed
        ("BYTES", [1000, 2_000_000_000], 8_000_000),
    ],
)
def test_false_sizes_allocate_no_memory(datatype: str, shape: list[int], size: int) -> None:
    entry = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError):
            tensors.read([entry], BODY, 1000)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def test_valid_binary_data_is_not_copied() -> None:
    entry = {"name": "x", "datatype": "FP64", "shape": [1000, 1000], "parameters": {"binary_data_size": 8_000_000}}
    tracemalloc.start()
    try:
        (found,) = tensors.read([entry], BODY, 1000)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    assert found.shape == (1000, 1000)
