"""OpenAPI operations of the enabled protocols. Their own specifications define the bodies in full."""

from http import HTTPStatus
from typing import Any

from app.endpoints.protocols.mlflow.endpoints import FORMS
from app.endpoints.protocols.open_inference.endpoints import MODEL, VERSION
from app.endpoints.protocols.open_inference.tensors import datatype_of
from app.http import codings
from app.loaded import Loaded
from app.settings import Settings

Json = dict[str, Any]

_REFUSALS = (400, 408, 413, 415, 500, 503, 504)
_MLFLOW = "MLflow protocol"
_INFERENCE = "Open Inference Protocol"
_TEXT: Json = {"type": "string"}
_OBJECT: Json = {"type": "object"}


def paths(settings: Settings, loaded: Loaded | None) -> Json:
    """Return the paths of the enabled protocols, with the model's input example."""
    example = loaded.model.example if loaded else None
    found: Json = {}
    if settings.mlflow_protocol:
        found |= _mlflow(example)
    if settings.open_inference_protocol:
        found |= _inference(example, loaded)
    for path, operations in found.items():
        error = _error(error=_TEXT) if path.startswith("/v2") else _error(error_code=_TEXT, message=_TEXT)
        for method, operation in operations.items():
            if settings.authenticates:
                operation["responses"] |= _refused(error, 401)
            if settings.quotas_file and method == "post":
                operation["responses"] |= _refused(error, 429)
    return found


def _mlflow(example: Json | None) -> Json:
    body: Json = {"schema": {"oneOf": [{"type": "object", "required": [form]} for form in FORMS]}}
    if example:
        body["example"] = {"dataframe_split": example}
    content = {"application/json": body, "text/csv": {"schema": _TEXT}}
    answer = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    error = _error(error_code=_TEXT, message=_TEXT)
    plain: Json = {
        "200": {"description": "The response of an MLflow scoring server.", "content": {"application/json": {}}}
    }
    return {
        "/invocations": {"post": _operation("invocations", _MLFLOW, "Predict rows", answer, error, content)},
        "/ping": {
            "get": {
                "operationId": "ping",
                "tags": [_MLFLOW],
                "summary": "Readiness",
                "responses": plain | _refused(error, 503),
            }
        },
        "/version": {
            "get": {"operationId": "version", "tags": [_MLFLOW], "summary": "MLflow version", "responses": plain}
        },
    }


def _inference(example: Json | None, loaded: Loaded | None) -> Json:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {"name": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}, "datatype": _TEXT},
    }
    tensors = {"type": "array", "items": tensor, "minItems": 1}
    request = {"type": "object", "required": ["inputs"], "properties": {"inputs": tensors, "id": _TEXT}}
    body: Json = {"schema": request}
    if example and loaded:
        body["example"] = {"inputs": _tensors(example, loaded)}
    answer = {"type": "object", "required": ["model_name", "model_version", "id", "outputs"]}
    error = _error(error=_TEXT)
    found: Json = {
        "/v2": {"get": _get("server_metadata", "Server name and extensions", [], error)},
        "/v2/health/live": {"get": _get("server_live", "Server liveness", [], error)},
        "/v2/health/ready": {"get": _get("server_ready", "Server readiness", [], _OBJECT, 503)},
    }
    for path, names, suffix in ((MODEL, ["name"], ""), (VERSION, ["name", "version"], "_version")):
        infer = _operation(
            f"infer{suffix}", _INFERENCE, "Predict tensors", answer, error, {"application/json": body}, 404
        )
        infer["parameters"] = _parameters(names)
        found |= {
            path: {"get": _get(f"model_metadata{suffix}", "Inputs and outputs of the model", names, error, 404, 503)},
            f"{path}/ready": {"get": _get(f"model_ready{suffix}", "Model readiness", names, _OBJECT, 404, 503)},
            f"{path}/infer": {"post": infer},
        }
    return found


def _tensors(example: Json, loaded: Loaded) -> list[Json]:
    """Return the example with one tensor per column, which contains only the values."""
    columns = {column.name: column for column in loaded.model.signature.columns}
    values = zip(example["columns"], zip(*example["data"], strict=True), strict=True)
    return [
        {"name": name, "shape": [len(cells)], "datatype": datatype_of(columns[name]), "data": list(cells)}
        for name, cells in values
    ]


def _operation(name: str, tag: str, text: str, answer: Json, error: Json, content: Json, *refusals: int) -> Json:
    good = {"200": {"description": "The predictions.", "content": {"application/json": {"schema": answer}}}}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": text,
        "requestBody": {"required": True, "description": codings.TAKEN, "content": content},
        "responses": good | _refused(error, *_REFUSALS, *refusals),
    }


def _get(name: str, text: str, names: list[str], error: Json, *refusals: int) -> Json:
    good = {"200": {"description": f"{text}.", "content": {"application/json": {"schema": _OBJECT}}}}
    found: Json = {"operationId": name, "tags": [_INFERENCE], "summary": text}
    found["responses"] = good | _refused(error, *refusals)
    return found | ({"parameters": _parameters(names)} if names else {})


def _parameters(names: list[str]) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]


def _refused(error: Json, *statuses: int) -> Json:
    content = {"application/json": {"schema": error}}
    return {str(each): {"description": HTTPStatus(each).phrase, "content": content} for each in statuses}


def _error(**members: Json) -> Json:
    return {"type": "object", "required": list(members), "properties": members, "additionalProperties": False}
