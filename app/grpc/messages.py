"""The messages of inference.GRPCInferenceService.

They have a pool of descriptors of their own. In protobuf's default pool, the generated code of another package, such as
a client of Triton, would conflict with them.

Source: kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto, with two kinds of parameters
that Triton added.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from app.errors import InvalidInputError

PACKAGE = "inference"

# The fields of each message in proto's own syntax. Their numbers are 1, 2, 3, … in this order.
_PARAMETERS = "map InferParameter parameters"
_TENSOR = ("string name", "string datatype", "repeated int64 shape")
_DATA_TENSOR = (*_TENSOR, _PARAMETERS, "InferTensorContents contents")
_FIELDS: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready",),
    "ModelReadyRequest": ("string name", "string version"),
    "ModelReadyResponse": ("bool ready",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("string name", "string version", "repeated string extensions"),
    "ModelMetadataRequest": ("string name", "string version"),
    "ModelMetadataResponse": (
        "string name",
        "repeated string versions",
        "string platform",
        "repeated ModelMetadataResponse.TensorMetadata inputs",
        "repeated ModelMetadataResponse.TensorMetadata outputs",
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "bool bool_param",
        "int64 int64_param",
        "string string_param",
        "double double_param",
        "uint64 uint64_param",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents",
        "repeated int32 int_contents",
        "repeated int64 int64_contents",
        "repeated uint32 uint_contents",
        "repeated uint64 uint64_contents",
        "repeated float fp32_contents",
        "repeated double fp64_contents",
        "repeated bytes bytes_contents",
    ),
    "ModelInferRequest": (
        "string model_name",
        "string model_version",
        "string id",
        _PARAMETERS,
        "repeated ModelInferRequest.InferInputTensor inputs",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs",
        "repeated bytes raw_input_contents",
    ),
    "ModelInferRequest.InferInputTensor": _DATA_TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": ("string name", _PARAMETERS),
    "ModelInferResponse": (
        "string model_name",
        "string model_version",
        "string id",
        _PARAMETERS,
        "repeated ModelInferResponse.InferOutputTensor outputs",
        "repeated bytes raw_output_contents",
    ),
    "ModelInferResponse.InferOutputTensor": _DATA_TENSOR,
}
CHOICES = {"InferParameter": "parameter_choice"}  # messages whose fields are alternatives, and the name of the choice


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    known: dict[str, DescriptorProto] = {}
    for path, fields in _FIELDS.items():
        outer, _, name = path.rpartition(".")
        message = known[path] = known[outer].nested_type.add() if outer else file.message_type.add()
        message.name = name
        if path in CHOICES:
            message.oneof_decl.add(name=CHOICES[path])
        for number, text in enumerate(fields, 1):
            _add(message, path, number, text)
    return file


def _add(message: DescriptorProto, path: str, number: int, text: str) -> None:
    """Add a field; a map is a list of entries, for which protobuf has a message."""
    *label, kind, name = text.split()
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if label:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if path in CHOICES:
        field.oneof_index = 0
    if label == ["map"]:
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add(entry, "", 1, "string key")
        _add(entry, "", 2, f"{kind} value")
        kind = f"{path}.ParametersEntry"
    if kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _classes() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    found = (pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in _FIELDS if "." not in name)
    return {each.name: GetMessageClass(each) for each in found}


CLASSES = _classes()
"""Class of each message by its name, without the package."""


def parsed(name: str, content: bytes) -> Any:
    """Return the message in these bytes.

    Args:
        name: Name of the message without the package.
        content: The message as it was received.

    Raises:
        InvalidInputError: It is not such a message.
    """
    try:
        return CLASSES[name].FromString(content)
    except DecodeError:
        raise InvalidInputError(
            f"The message is not a valid {PACKAGE}.{name}; generate the client from open_inference_grpc.proto."
        ) from None
