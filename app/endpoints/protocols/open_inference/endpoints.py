"""The Open Inference Protocol, version 2, over REST, as used by clients of KServe and Triton.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and its binary data extension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar

import numpy as np
import orjson
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from app import __version__
from app.context import REQUEST_ID
from app.endpoints.predict import Predict
from app.endpoints.protocols.base import Protocol, sentence
from app.endpoints.protocols.open_inference import tensors
from app.endpoints.protocols.open_inference.requests import columns_of, matrix_of, payload_of, whole_matrix
from app.endpoints.protocols.open_inference.responses import Tensors, outputs_of
from app.errors import RETRY_AFTER_SECONDS, InvalidInputError, NotJsonError, NotReadyError, UnknownModelError
from app.http.body import Body, Media
from app.http.front import Direct
from app.loaded import Loaded
from app.model.output import Predictions
from app.model.parameters import picked
from app.model.rows import Rows
from app.service import Service

LENGTH_HEADER = b"inference-header-content-length"
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"


@dataclass(frozen=True)
class InferRows(Rows):
    """The rows of a request and the form of its response.

    Args:
        identity: ID in the request, otherwise the request ID.
        wanted: Requested outputs by name, and whether each one is returned as binary data.
    """

    identity: str = ""
    wanted: dict[str, bool] = field(default_factory=dict)


class Framed(bytes):
    """A response body of JSON followed by binary data; `json_bytes` is the length of the JSON."""

    json_bytes = 0


class Infer(Predict):
    """The endpoint POST /v2/models/{name}[/versions/{version}]/infer."""

    vary: ClassVar[bytes] = b"Accept-Encoding"
    media: ClassVar[Media] = Media.of(
        "JSON, or JSON and binary tensors",
        "application/json, application/octet-stream",
        "Content-Type: application/json or application/octet-stream",
        rb"application/octet-stream",
    )

    def check(self, scope: Scope) -> None:
        """Check the model and version in the path.

        Raises:
            UnknownModelError: A different model or version is served.
        """
        check_served(self._service, **scope["path_params"])

    def read(self, loaded: Loaded, content: bytes, received: Body) -> InferRows:
        """Parse the request.

        Raises:
            NotJsonError: The request is not valid JSON.
            InvalidInputError: The request is malformed; the message names the tensor.
            TooLargeError: The request has too many rows.
        """
        text, raw = _parts(content, received.headers)
        if (request := tensors.parsed(text, loaded.reader.typed)) is None:
            try:
                request = from_json(text)  # accepts NaN, which clients send for missing values
            except ValueError:
                raise NotJsonError("The request is not valid JSON.") from None
        if not isinstance(request, dict):
            raise InvalidInputError("The request must be a JSON object.")
        return self.rows_of(loaded, request, raw)

    def rows_of(self, loaded: Loaded, request: dict[str, Any], raw: memoryview) -> InferRows:
        """Return the rows of a request.

        Args:
            loaded: The model.
            request: The request in the form of JSON, in which the data of a tensor may be an array of its datatype.
            raw: Binary data of the tensors.

        Raises:
            InvalidInputError: The request is malformed; the message names the tensor.
            TooLargeError: The request has too many rows.
        """
        identity = request.get("id", REQUEST_ID.get())
        if not isinstance(identity, str):
            raise InvalidInputError("id must be a string.")
        wanted = _wanted(request, outputs_of(loaded.model))
        found = tensors.read(request.get("inputs"), raw, self._settings.max_rows)
        signature = loaded.model.signature
        given = picked(signature.parameters, request.get("parameters") or {})
        if (narrow := whole_matrix(found, signature)) is not None:

            def rows() -> dict[str, Any]:
                return payload_of(columns_of(found, signature))()

            return InferRows(len(narrow), lambda: narrow, rows, given, identity=identity, wanted=wanted)
        columns = columns_of(found, signature)
        unseen: list[str] = []
        matrix, payload = matrix_of(columns, signature, unseen), payload_of(columns)
        return InferRows(found[0].shape[0], matrix, payload, given, unseen, identity, wanted)

    def write(self, loaded: Loaded, predictions: Predictions, rows: Rows) -> bytes:
        """Return the response body with the requested outputs."""
        assert isinstance(rows, InferRows)  # noqa: S101 - `read` returns them
        known = outputs_of(loaded.model)
        found, binary = [], []
        for name, as_bytes in rows.wanted.items():
            output = known[name]
            values = output.values(predictions)
            entry: dict[str, Any] = {"name": name, "datatype": output.datatype, "shape": [rows.count, *output.shape]}
            if as_bytes:
                binary.append(tensors.written(values, output.datatype))
                entry["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                entry["data"] = values.tolist() if isinstance(values, np.ndarray) else values
            found.append(entry)
        identity = loaded.model.provenance.identity
        model = {"model_name": identity["name"], "model_version": identity["version"], "id": rows.identity}
        content = orjson.dumps(model | {"outputs": found})
        if not binary:
            return content
        framed = Framed(b"".join([content, *binary]))
        framed.json_bytes = len(content)
        return framed

    def headers(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a successful response, including the length of its JSON before any compression."""
        if not isinstance(content, Framed):
            return super().headers(content)
        return [
            (b"content-type", b"application/octet-stream"),
            (LENGTH_HEADER, str(content.json_bytes).encode()),
        ]


def protocol(service: Service) -> Protocol:
    """Return the protocol with its routes."""

    async def server(_: Request) -> Response:
        return _json({"name": "model-service", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        return _json({"ready": not service.reasons}, unless=service.reasons)

    async def model_ready(request: Request) -> Response:
        check_served(service, **request.path_params)
        return _json({"name": service.settings.served_name, "ready": not service.reasons}, unless=service.reasons)

    async def metadata(request: Request) -> Response:
        check_served(service, **request.path_params)
        if service.loaded is None:
            raise NotReadyError
        return _json(described(service.loaded))

    infer = Infer(service)
    routes = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for path in (VERSION, MODEL):
        routes += [
            Route(f"{path}/infer", infer, methods=["POST"]),
            Route(f"{path}/ready", model_ready),
            Route(path, metadata),
        ]
    served = service.settings.served_name
    direct = [Direct(f"{MODEL.format(name=served)}/infer", infer, f"{MODEL}/infer", {"name": served})]
    return Protocol(routes, ("v2",), error, direct)


def error(problem: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return a problem in the protocol's error format, in which invalid input has status 400."""
    status = problem["status"]
    shown = 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
    return {"error": sentence(problem)}, shown, "application/json"


def described(loaded: Loaded) -> dict[str, Any]:
    """Return the metadata of a model: one input tensor per column, and its outputs."""
    model = loaded.model
    inputs = [
        {"name": column.name, "datatype": tensors.datatype_of(column), "shape": [-1, *column.shape]}
        for column in model.signature.columns
    ]
    outputs = [
        {"name": name, "datatype": each.datatype, "shape": [-1, *each.shape]}
        for name, each in outputs_of(model).items()
    ]
    identity = model.provenance.identity
    known = {"name": identity["name"], "versions": [identity["version"]], "platform": f"mlflow_{model.flavor}"}
    return known | {"inputs": inputs, "outputs": outputs}


def check_served(service: Service, name: str, version: str = "") -> None:
    """Check the model and version that a request names.

    Raises:
        UnknownModelError: A different model or version is served.
        NotReadyError: No model is loaded yet, and the request names a version.
    """
    served = service.settings.served_name
    if name != served:
        raise UnknownModelError(f"The model {name[:200]!r} is not served here; {served!r} is.")
    if version and service.loaded is None:
        raise NotReadyError
    if version and service.loaded and version != (known := service.loaded.model.provenance.version):
        raise UnknownModelError(f"Version {version[:200]!r} of {served!r} is not served here; version {known!r} is.")


def _parts(content: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, memoryview]:
    """Return the JSON and the binary data of a body."""
    for name, value in headers:
        if name == LENGTH_HEADER:
            size = int(value[:20]) if value.isdigit() else -1
            if not 0 < size <= len(content):
                raise InvalidInputError(
                    f"Inference-Header-Content-Length must be between 1 and {len(content)}, the length of the body."
                )
            return content[:size], memoryview(content)[size:]
    return content, memoryview(b"")


def _wanted(request: dict[str, Any], known: Tensors) -> dict[str, bool]:
    """Return the requested outputs, all if none are named, and whether each one is returned as binary data."""
    parameters = _object(request.get("parameters"), "parameters")
    otherwise = parameters.get("binary_data_output", False)
    if "outputs" not in request:
        return dict.fromkeys(known, otherwise is True)
    if not isinstance(asked := request["outputs"], list):
        raise InvalidInputError("outputs must be a list.")
    wanted = {}
    for place, entry in enumerate(asked):
        if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str) or name not in known:
            raise InvalidInputError(f"Output {place} must be an object with a name: one of {', '.join(known)}.")
        parameters = _object(entry.get("parameters"), f"parameters of output {name}")
        if parameters.get("classification") or "shared_memory_region" in parameters:
            raise InvalidInputError(f"Output {name}: classification and shared memory are not supported.")
        wanted[name] = parameters.get("binary_data", otherwise) is True
    return wanted or dict.fromkeys(known, otherwise is True)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise InvalidInputError(f"{name} must be an object.")
    return value or {}


def _json(content: Any, unless: Sequence[str] = ()) -> Response:
    """Return a response with status 200, or 503 if there are reasons for it."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if unless else {}
    return Response(orjson.dumps(content), 503 if unless else 200, headers, media_type="application/json")
