"""Clients of a service with gRPC and REST, and messages for the saved model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc
from starlette.testclient import TestClient
from tritonclient.grpc import InferenceServerClient, service_pb2

from tests.app.harness import MODEL

SERVICE = "inference.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Ended:
    """How a call ended, and its trailing metadata."""

    code: grpc.StatusCode
    detail: str
    metadata: dict[str, str]
    answer: bytes = b""


@dataclass(frozen=True)
class Both:
    """Clients of one service, whose gRPC is at `address`."""

    address: str
    rest: TestClient
    channel: grpc.Channel
    triton: InferenceServerClient

    def call(self, method: str, content: bytes, metadata: Metadata = (), **options: Any) -> Ended:
        """Return how a call with these bytes as its message ended."""
        call = self.channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            answer, done = call.with_call(content, metadata=metadata, timeout=300, **options)
        except grpc.RpcError as error:
            return ended(error)
        return Ended(done.code(), "", dict(done.trailing_metadata()), answer)

    def infer(self, request: Any, metadata: Metadata = ()) -> Ended:
        return self.call("ModelInfer", request.SerializeToString(), metadata)


def ended(call: Any) -> Ended:
    """Return how a failed call ended."""
    return Ended(call.code(), call.details(), dict(call.trailing_metadata() or ()))


def message(rows: Sequence[Sequence[float]] = ((0.5, 0.25, 3),), **fields: Any) -> Any:
    """Return a request for the saved model, with one tensor in the field of its datatype."""
    tensor = {"name": "rows", "datatype": "FP32", "shape": [len(rows), len(rows[0])]}
    contents = {"contents": {"fp32_contents": [value for row in rows for value in row]}}
    return service_pb2.ModelInferRequest(**{"model_name": MODEL, "inputs": [tensor | contents]} | fields)


Start = Callable[..., AbstractContextManager[Both]]
