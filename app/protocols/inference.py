"""Speak the Open Inference Protocol, version 2, over REST: what KServe's and Triton's clients speak.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and its binary data extension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from app import __version__
from app.body import Media
from app.errors import RETRY_AFTER_SECONDS, InvalidInputError, NotJsonError, NotReadyError, UnknownModelError
from app.loading import Loaded, Service
from app.logs import REQUEST_ID
from app.parameters import picked
from app.predict import Predict
from app.protocols import tensors
from app.protocols.inputs import columns_of, matrix_of, payload_of
from app.protocols.outputs import Tensors, outputs_of
from app.protocols.spoken import Spoken, sentence
from app.rows import Rows

LENGTH_HEADER = b"inference-header-content-length"
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"


@dataclass(frozen=True)
class InferRows(Rows):
    """The rows of a request, and how it wants its answer.

    Args:
        identity: the request's own id, or ours.
        wanted: outputs by name, and whether each is to be binary.
    """

    identity: str = ""
    wanted: dict[str, bool] = field(default_factory=dict)


class Framed(bytes):
    """An answer with binary data behind its JSON.

    Args:
        json_bytes: how long the JSON is.
    """

    json_bytes = 0


class Infer(Predict):
    """POST /v2/models/{name}[/versions/{version}]/infer of a service."""

    media: ClassVar[Media] = Media.of(
        "JSON, or JSON and binary tensors",
        "application/json, application/octet-stream",
        "Content-Type: application/json or application/octet-stream",
        rb"application/octet-stream",
    )

    def check(self, scope: Scope) -> None:
        """Refuse a request for another model.

        Raises:
            UnknownModelError: it is.
        """
        _check(self._service, **scope["path_params"])

    def read(self, loaded: Loaded, content: bytes, scope: Scope) -> InferRows:
        """Return the rows of a request.

        Raises:
            NotJsonError: it is no JSON.
            InvalidInputError: it is malformed; the text names the tensor.
            TooLargeError: it has too many rows.
        """
        text, raw = _parts(content, scope)
        try:
            request = from_json(text)  # with NaN, which clients send for missing values
        except ValueError:
            raise NotJsonError("The request is no JSON.") from None
        if not isinstance(request, dict):
            raise InvalidInputError("The request must be a JSON object.")
        identity = request.get("id", REQUEST_ID.get())
        if not isinstance(identity, str):
            raise InvalidInputError("id must be a string.")
        wanted = _wanted(request, outputs_of(loaded.model))
        found = tensors.read(request.get("inputs"), raw, self._settings.max_rows)
        signature = loaded.model.signature
        columns = columns_of(found, signature)
        given = picked(signature.parameters, request.get("parameters") or {})
        matrix, payload = matrix_of(columns, signature), payload_of(columns)
        return InferRows(found[0].shape[0], matrix, payload, given, identity, wanted)

    def write(self, loaded: Loaded, predictions: list[Any], rows: Rows) -> bytes:
        """Return the outputs that are wanted."""
        assert isinstance(rows, InferRows)  # noqa: S101 - what read returned
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
                entry["data"] = values
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
        """Return the headers of an answer, which say where its JSON ends."""
        if not isinstance(content, Framed):
            return super().headers(content)
        return [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(len(content)).encode()),
            (LENGTH_HEADER, str(content.json_bytes).encode()),
        ]


def spoken(service: Service) -> Spoken:
    """Return the endpoints of a service."""

    async def server(_: Request) -> Response:
        return _json({"name": "model-service", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        return _json({"ready": not service.reasons}, unless=service.reasons)

    async def model_ready(request: Request) -> Response:
        _check(service, **request.path_params)
        return _json({"name": service.settings.served_name, "ready": not service.reasons}, unless=service.reasons)

    async def metadata(request: Request) -> Response:
        _check(service, **request.path_params)
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
    return Spoken(routes, ("v2",), error)


def error(problem: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return a problem as the protocol writes errors; wrong input is a 400 there."""
    status = problem["status"]
    shown = 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
    return {"error": sentence(problem)}, shown, "application/json"


def described(loaded: Loaded) -> dict[str, Any]:
    """Return the metadata of a model: a tensor for each column, and its outputs."""
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


def _check(service: Service, name: str, version: str = "") -> None:
    served = service.settings.served_name
    if name != served:
        raise UnknownModelError(f"There is no model {name[:200]!r} here; the one that is served is {served!r}.")
    if version and service.loaded is None:
        raise NotReadyError
    if version and service.loaded and version != (known := service.loaded.model.provenance.version):
        raise UnknownModelError(f"There is no version {version[:200]!r} of {served!r} here; {known!r} is served.")


def _parts(content: bytes, scope: Scope) -> tuple[bytes, memoryview]:
    """Return the JSON and the binary data of a body."""
    for name, value in scope["headers"]:
        if name == LENGTH_HEADER:
            size = int(value[:20]) if value.isdigit() else -1
            if not 0 < size <= len(content):
                raise InvalidInputError(f"Inference-Header-Content-Length must be from 1 to the body's {len(content)}.")
            return content[:size], memoryview(content)[size:]
    return content, memoryview(b"")


def _wanted(request: dict[str, Any], known: Tensors) -> dict[str, bool]:
    """Return which outputs are asked for, and whether each is to be binary: all of them unless it is said."""
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
            raise InvalidInputError(f"Output {name} can neither be classified nor put in shared memory here.")
        wanted[name] = parameters.get("binary_data", otherwise) is True
    return wanted or dict.fromkeys(known, otherwise is True)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise InvalidInputError(f"{name} must be an object.")
    return value or {}


def _json(content: Any, unless: Sequence[str] = ()) -> Response:
    """Answer 200, or 503 when there are reasons for it."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if unless else {}
    return Response(orjson.dumps(content), 503 if unless else 200, headers, media_type="application/json")
