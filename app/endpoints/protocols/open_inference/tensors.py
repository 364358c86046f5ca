"""Tensors of the Open Inference Protocol, as JSON and as binary data.

Before any value is read, the size of a tensor is checked against its shape, its datatype and the size of the data.

Source: kserve/open-inference-protocol, specification/protocol (inference_rest.md and its binary data extension).
"""

import math
import struct
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import simdjson
from numpy.typing import NDArray

from app.errors import CellError, InvalidInputError, TooLargeError
from app.model.columns import INTEGER_BITS, REALS, Column, kind
from app.model.typed import Typed

REAL_TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
WHOLE_TYPES = {f"{sign}INT{8 * size}": f"<{'u' if sign else 'i'}{size}" for sign in ("", "U") for size in (1, 2, 4, 8)}
DTYPES = REAL_TYPES | WHOLE_TYPES | {"BOOL": "|b1"}
DATATYPES = (*DTYPES, "BYTES")

_LENGTH = struct.Struct("<I")
# The widest type by the kind of a type, in simdjson's terms.
_WIDEST: dict[str, Literal["d", "i", "u"]] = {"f": "d", "i": "i", "u": "u"}
_FAILURES = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)  # RuntimeError: simdjson's own errors


@dataclass(frozen=True)
class Tensor:
    """One input.

    Args:
        name: Name in the request.
        datatype: Datatype, as the protocol names it.
        shape: One or two dimensions, of which the first is the number of rows.
        values: Flat values in row-major order.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[Any]

    def columns(self) -> list[NDArray[Any] | list[Any]]:
        """Return the values of each column of a two-dimensional tensor."""
        width = self.shape[1]
        return [self.values[i::width] for i in range(width)]


def read(entries: Any, raw: memoryview, most: int) -> list[Tensor]:
    """Return the inputs of a request.

    Args:
        entries: `inputs` of the request.
        raw: Binary data after the JSON.
        most: Maximum number of rows.

    Raises:
        InvalidInputError: An input is malformed; the message names it.
        TooLargeError: An input has too many rows.
    """
    if not isinstance(entries, list) or not entries:
        raise InvalidInputError("inputs must be a list of at least one tensor.")
    found = []
    at = 0
    for place, entry in enumerate(entries):
        name, datatype, shape = _head(entry, place)
        if shape[0] > most:
            raise TooLargeError(f"Input {name!r} has {shape[0]} rows; the limit is {most}.")
        count = math.prod(shape)
        parameters = entry.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise _wrong(name, f"has parameters of the wrong type: {kind(parameters)} instead of an object")
        if "shared_memory_region" in parameters:
            raise _wrong(name, "is in shared memory, which is not supported")
        size = parameters.get("binary_data_size")
        if size is None:
            found.append(Tensor(name, datatype, shape, _from_json(name, datatype, shape, entry.get("data"))))
            continue
        if "data" in entry:
            raise _wrong(name, "has both data and binary_data_size")
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise _wrong(name, f"has a binary_data_size that does not fit in the remaining {len(raw) - at} bytes")
        found.append(Tensor(name, datatype, shape, _from_bytes(name, datatype, count, raw[at : at + size])))
        at += size
    if at != len(raw):
        raise InvalidInputError(f"{len(raw) - at} bytes of binary data belong to no input.")
    return found


def parsed(text: bytes, typed: Typed) -> dict[str, Any] | None:
    """Return a request in which the data of each tensor of numbers is an array, or None if it may be malformed."""
    try:
        document = typed.parse(text) if text[:1] == b"{" else None
        if not isinstance(document, simdjson.Object):
            return None
        entries = document["inputs"]
        found = [_entry(each) for each in entries] if isinstance(entries, simdjson.Array) else []
        others = {key: _plain(document[key]) for key in document if key != "inputs"}
        # The lists of inputs and outputs, and a shape and values for each input: a tensor has at most two dimensions,
        # and its values are read flat, so this shows that no list is nested deeper.
        lists = 1 + isinstance(others.get("outputs"), list)
        lists += sum(1 + (0 if nested is None else 1 + nested) for _, nested in found)
    except _FAILURES:
        return None
    if not found or text.count(b"[") != lists or len(document) != len(others) + 1:
        return None
    return others | {"inputs": [entry for entry, _ in found]}


def written(values: NDArray[Any] | list[Any], datatype: str) -> bytes:
    """Return flat values as binary data."""
    if datatype != "BYTES":
        return np.array(values, DTYPES[datatype]).tobytes()
    texts = [each.encode("utf-8", "surrogatepass") for each in values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def datatype_of(column: Column) -> str:
    """Return the datatype in the metadata of a column."""
    known = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
    return known.get(column.type, "BYTES")


def misfit(column: Column, datatype: str) -> CellError | None:
    """Return the error for a column's datatype, or None if its values may fit."""
    taken: tuple[str, ...] = ("BYTES",)
    if column.type in REALS or column.type in INTEGER_BITS:
        taken = (*REAL_TYPES, *WHOLE_TYPES)
    elif column.type == "boolean":
        taken = ("BOOL",)
    if datatype in taken:
        return None
    return CellError(
        None, column.name, f"is a {column.type}, so its datatype must be {', '.join(taken)}, not {datatype}"
    )


def _head(entry: Any, place: int) -> tuple[str, str, tuple[int, ...]]:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
        raise InvalidInputError(f"Input {place} must be an object with a name.")
    if (datatype := entry.get("datatype")) not in DATATYPES:
        raise _wrong(name, f"must have one of the datatypes {', '.join(DATATYPES)}")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not shape or len(shape) > 2 or not all(_is_size(each) for each in shape):
        raise _wrong(name, "must have the shape [rows], [rows, 1] or [rows, columns], with sizes of at least 1")
    return name, str(datatype), tuple(shape)


def _entry(entry: Any) -> tuple[dict[str, Any], int | None]:
    """Return an input, and the number of lists in its data; None without data.

    Raises:
        KeyError, TypeError, ValueError: It is malformed, or its values are not numbers of its datatype.
    """
    known: dict[str, Any] = {key: _plain(entry[key]) for key in entry if key != "data"}
    if len(known) == len(entry):
        return known, None
    data, datatype, shape = entry["data"], known["datatype"], known["shape"]
    if len(known) != len(entry) - 1 or not isinstance(data, simdjson.Array) or datatype not in DTYPES:
        raise ValueError(datatype)
    dtype = np.dtype(DTYPES[datatype])
    wide = _WIDEST[dtype.kind]
    nested = 0
    if isinstance(data[0], simdjson.Array):
        nested = len(data)
        if len(shape) != 2 or [nested] != shape[:1] or set(map(len, cast(Iterable[Sized], data))) != {shape[1]}:
            raise ValueError(shape)
    values: NDArray[Any] = np.frombuffer(data.as_buffer(of_type=wide), f"{dtype.kind}8")
    if dtype.kind != "f" and not (np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max):
        raise ValueError(datatype)
    return known | {"data": values}, nested


def _plain(value: Any) -> Any:
    """Return a part of a document as Python objects."""
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> NDArray[Any] | list[Any]:
    """Return the values of `data`, which may be flat or nested like its shape; null stays None.

    An array has the flat values of `parsed`, which are of the datatype.
    """
    if isinstance(data, np.ndarray) and len(data) == math.prod(shape):
        return data
    if isinstance(data, np.ndarray):
        data = data.tolist()
    if not isinstance(data, list):
        raise _wrong(name, f"must have its values in the list data, which is {kind(data)}")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if len(data) != shape[0] or not all(isinstance(row, list) and len(row) == shape[1] for row in data):
            raise _wrong(name, f"has data that does not match its shape {list(shape)}")
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise _wrong(name, f"has {len(data)} values, but its shape {list(shape)} has {math.prod(shape)}")
    types = set(map(type, data))
    if "FP" in datatype:
        fits = types <= {float, int, type(None)}
    else:
        fits = types <= ({bool} if datatype == "BOOL" else {str} if datatype == "BYTES" else {int}) | {type(None)}
    if not fits:
        raise _wrong(name, f"has values in data that are not of datatype {datatype}")
    if datatype in WHOLE_TYPES:
        limits = np.iinfo(DTYPES[datatype])
        if any(value is not None and not limits.min <= value <= limits.max for value in data):
            raise _wrong(name, f"has values in data that do not fit in {datatype}")
    return list(data)


def _from_bytes(name: str, datatype: str, count: int, raw: memoryview) -> NDArray[Any] | list[Any]:
    if datatype != "BYTES":
        dtype = np.dtype(DTYPES[datatype])
        if len(raw) != count * dtype.itemsize:
            raise _wrong(name, f"has {len(raw)} bytes of binary data, but its shape has {count * dtype.itemsize}")
        if datatype == "BOOL" and len(raw.tobytes().translate(None, b"\0\1")):
            raise _wrong(name, "has binary data with bytes that are neither 0 nor 1")
        return np.frombuffer(raw, dtype)
    if len(raw) < count * _LENGTH.size:
        raise _wrong(name, f"has {len(raw)} bytes of binary data, too few for {count} strings")
    values: list[Any] = []
    at = 0
    while at < len(raw) and len(values) < count:
        size = _LENGTH.unpack_from(raw, at)[0] if len(raw) - at >= _LENGTH.size else len(raw)
        at += _LENGTH.size
        if size > len(raw) - at:
            raise _wrong(name, f"has binary data that ends within its string {len(values)}")
        try:
            values.append(str(raw[at : at + size], "utf-8"))
        except UnicodeDecodeError:
            raise _wrong(name, f"has binary data whose string {len(values)} is not valid UTF-8") from None
        at += size
    if at != len(raw) or len(values) != count:
        raise _wrong(name, f"has binary data of {len(values)} strings or more, but its shape has {count}")
    return values


def _wrong(name: str, problem: str) -> InvalidInputError:
    return InvalidInputError(f"Input {name[:200]!r} {problem}.")
