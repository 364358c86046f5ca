"""The methods of inference.GRPCInferenceService, as endpoints whose bodies are messages."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.endpoints.protocols.base import sentence
from app.endpoints.protocols.open_inference import tensors
from app.endpoints.protocols.open_inference.endpoints import Infer, InferRows, check_served, described
from app.endpoints.protocols.open_inference.responses import outputs_of
from app.errors import (
    CLIENT_CLOSED_REQUEST,
    ClientGoneError,
    NotReadyError,
    ProblemError,
    problem_response,
)
from app.grpc.messages import CLASSES, PACKAGE, parsed
from app.grpc.tensors import CONTENTS, document
from app.http import body
from app.http.body import Body
from app.loaded import Loaded
from app.model.output import Predictions
from app.model.rows import Rows
from app.service import Service

SERVICE = f"{PACKAGE}.GRPCInferenceService"
INFER = "ModelInfer"


class GrpcInfer(Infer):
    """The method ModelInfer."""

    def check(self, scope: Scope) -> None:
        """Check nothing: the model is named in the message."""

    def read(self, loaded: Loaded, content: bytes, received: Body) -> InferRows:
        """Parse the message.

        Raises:
            InvalidInputError: The request is malformed; the message names the tensor.
            UnknownModelError: It names a model or version that is not served.
            TooLargeError: The request has too many rows.
        """
        del received
        request = parsed("ModelInferRequest", content)
        check_served(self._service, request.model_name, request.model_version)
        return self.rows_of(loaded, document(request), memoryview(b"".join(request.raw_input_contents)))

    def write(self, loaded: Loaded, predictions: Predictions, rows: Rows) -> bytes:
        """Return the message with the requested outputs."""
        assert isinstance(rows, InferRows)  # noqa: S101 - `read` returns them
        identity, known = loaded.model.provenance.identity, outputs_of(loaded.model)
        answer = CLASSES["ModelInferResponse"](
            model_name=identity["name"], model_version=identity["version"], id=rows.identity
        )
        for name, raw in rows.wanted.items():
            output = known[name]
            values = output.values(predictions)
            tensor = answer.outputs.add(name=name, datatype=output.datatype, shape=[rows.count, *output.shape])
            if raw:
                answer.raw_output_contents.append(tensors.written(values, output.datatype))
                continue
            plain = values.tolist() if isinstance(values, np.ndarray) else values
            if output.datatype == "BYTES":
                plain = [each.encode("utf-8", "surrogatepass") for each in plain]
            getattr(tensor.contents, CONTENTS[output.datatype]).extend(plain)
        content: bytes = answer.SerializeToString()
        return content


class Inquiry:
    """A method about the server or the model.

    Args:
        service: State of the process.
        name: Name of the method.
        answer: Returns the fields of the response to a request.
    """

    def __init__(self, service: Service, name: str, answer: Callable[[Any], Mapping[str, Any]]) -> None:
        self._settings = service.settings
        self._name = name
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        settings = self._settings
        try:
            received = await body.read(scope, receive, settings.max_body_bytes, settings.body_timeout_seconds)
            fields = self._answer(parsed(f"{self._name}Request", received.content))
            response = Response(CLASSES[f"{self._name}Response"](**fields).SerializeToString())
        except ProblemError as problem:
            response = problem_response(problem.document(), problem.headers)
        except ClientGoneError:
            response = Response(status_code=CLIENT_CLOSED_REQUEST)
        await response(scope, receive, send)


def methods(service: Service) -> dict[str, ASGIApp]:
    """Return the endpoint of each method."""

    def live(_: Any) -> Mapping[str, Any]:
        return {"live": True}

    def ready(_: Any) -> Mapping[str, Any]:
        return {"ready": not service.reasons}

    def model_ready(request: Any) -> Mapping[str, Any]:
        check_served(service, request.name, request.version)
        return {"ready": not service.reasons}

    def server(_: Any) -> Mapping[str, Any]:
        return {"name": "model-service", "version": __version__}

    def model(request: Any) -> Mapping[str, Any]:
        check_served(service, request.name, request.version)
        if service.loaded is None:
            raise NotReadyError
        return described(service.loaded)

    inquiries = {
        "ServerLive": live,
        "ServerReady": ready,
        "ModelReady": model_ready,
        "ServerMetadata": server,
        "ModelMetadata": model,
    }
    return {INFER: GrpcInfer(service), **{name: Inquiry(service, name, answer) for name, answer in inquiries.items()}}


def error(problem: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return a problem with the text of the status of gRPC; app.grpc.server translates its number."""
    return {"error": sentence(problem)}, problem["status"], "application/json"
