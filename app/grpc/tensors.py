"""Tensors of the messages of gRPC, in the form of the protocol's JSON.

Numbers become arrays without an object for each. `raw_input_contents` are the binary data after the JSON.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.endpoints.protocols.open_inference.tensors import DTYPES, WHOLE_TYPES
from app.errors import InvalidInputError
from app.grpc.messages import CHOICES

# The field of InferTensorContents for each datatype. FP16 has none.
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIDE = {"int_contents": "<i4", "uint_contents": "<u4"}  # types of fields that several datatypes share


def document(request: Any) -> dict[str, Any]:
    """Return a ModelInferRequest as the JSON form of the same request.

    Its outputs have the form of its inputs: binary if it has `raw_input_contents`.

    Raises:
        InvalidInputError: An input has no data, or data in two places or in the wrong field.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"raw_input_contents must contain one entry for each of the {len(request.inputs)} inputs, not {len(raw)}."
        )
    inputs = []
    for place, tensor in enumerate(request.inputs):
        entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters = _plain(tensor.parameters)
        if raw:
            if tensor.HasField("contents"):
                raise _wrong(tensor, "has both contents and raw_input_contents")
            parameters["binary_data_size"] = len(raw[place])
        else:
            entry["data"] = _data(tensor)
        inputs.append(entry | {"parameters": parameters})
    outputs = [
        {"name": each.name, "parameters": _plain(each.parameters) | {"binary_data": bool(raw)}}
        for each in request.outputs
    ]
    parameters = _plain(request.parameters) | {"binary_data_output": bool(raw)}
    identity = {"id": request.id} if request.id else {}
    return identity | {"parameters": parameters, "inputs": inputs, "outputs": outputs}


def _data(tensor: Any) -> Any:
    """Return the values of a tensor's contents: an array of numbers, or a list."""
    datatype, contents = tensor.datatype, tensor.contents
    if datatype == "FP16":
        raise _wrong(tensor, "has the datatype FP16, whose values must be in raw_input_contents")
    if (field := CONTENTS.get(datatype)) is None:
        return []  # refused for its datatype
    if others := [each.name for each, _ in contents.ListFields() if each.name != field]:
        raise _wrong(tensor, f"has values in {others[0]}, but those of the datatype {datatype} must be in {field}")
    values = getattr(contents, field)
    if datatype == "BYTES":
        return [_text(tensor, place, value) for place, value in enumerate(values)]
    array = np.fromiter(values, _WIDE.get(field, DTYPES[datatype]), len(values))
    if datatype in WHOLE_TYPES and len(array):
        limits = np.iinfo(DTYPES[datatype])
        if not limits.min <= array.min() <= array.max() <= limits.max:
            return list(values)  # refused for its values
    return array


def _text(tensor: Any, place: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _wrong(tensor, f"has bytes_contents whose string {place} is not valid UTF-8") from None


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as Python values."""
    chosen = {name: (value, value.WhichOneof(CHOICES["InferParameter"])) for name, value in parameters.items()}
    return {name: getattr(value, field) if field else None for name, (value, field) in chosen.items()}


def _wrong(tensor: Any, problem: str) -> InvalidInputError:
    return InvalidInputError(f"Input {tensor.name[:200]!r} {problem}.")
