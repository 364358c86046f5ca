"""Describe the protocols that are spoken, for /openapi.json; what bodies may be is said by their specifications."""

from http import HTTPStatus
from typing import Any

from app.loading import Loaded
from app.protocols.inference import MODEL, VERSION
from app.protocols.mlflow import FORMS
from app.protocols.tensors import datatype_of
from app.settings import Settings

Json = dict[str, Any]

_REFUSALS = (400, 408, 413, 415, 500, 503, 504)
_TEXT: Json = {"type": "string"}
_OBJECT: Json = {"type": "object"}


def paths(settings: Settings, loaded: Loaded | None) -> Json:
    """Return the paths of the protocols that are switched on, with the model's example."""
    example = loaded.model.example if loaded else None
    found: Json = {}
    if settings.mlflow_protocol:
        found |= _mlflow(example)
    if settings.open_inference_protocol:
        found |= _inference(example, loaded)
    if settings.api_keys_dir:
        for path, operations in found.items():
            error = _error(error=_TEXT) if path.startswith("/v2") else _error(error_code=_TEXT, message=_TEXT)
            for operation in operations.values():
                operation["responses"] |= _refused(error, 401)
    return found


def _mlflow(example: Json | None) -> Json:
    body: Json = {"schema": {"oneOf": [{"type": "object", "required": [form]} for form in FORMS]}}
    if example:
        body["example"] = {"dataframe_split": example}
    content = {"application/json": body, "text/csv": {"schema": _TEXT}}
    answer = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    error = _error(error_code=_TEXT, message=_TEXT)
    plain: Json = {"200": {"description": "As MLflow answers.", "content": {"application/json": {}}}}
    return {
        "/invocations": {"post": _operation("invocations", "Predict by MLflow's protocol.", answer, error, content)},
        "/ping": {"get": {"operationId": "ping", "responses": plain | _refused(error, 503)}},
        "/version": {"get": {"operationId": "version", "responses": plain}},
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
        "/v2": {"get": _get("server_metadata", "The server and its extensions.", [], error)},
        "/v2/health/live": {"get": _get("server_live", "Whether the process runs.", [], error)},
        "/v2/health/ready": {"get": _get("server_ready", "Whether requests are welcome.", [], _OBJECT, 503)},
    }
    for path, names, suffix in ((MODEL, ["name"], ""), (VERSION, ["name", "version"], "_version")):
        infer = _operation(f"infer{suffix}", "Predict by tensors.", answer, error, {"application/json": body}, 404)
        infer["parameters"] = _parameters(names)
        found |= {
            path: {"get": _get(f"model_metadata{suffix}", "Inputs and outputs.", names, error, 404, 503)},
            f"{path}/ready": {"get": _get(f"model_ready{suffix}", "Whether it answers.", names, _OBJECT, 404, 503)},
            f"{path}/infer": {"post": infer},
        }
    return found


def _tensors(example: Json, loaded: Loaded) -> list[Json]:
    """Return the example as a tensor for each column that has values only."""
    columns = {column.name: column for column in loaded.model.signature.columns}
    values = zip(example["columns"], zip(*example["data"], strict=True), strict=True)
    return [
        {"name": name, "shape": [len(cells)], "datatype": datatype_of(columns[name]), "data": list(cells)}
        for name, cells in values
    ]


def _operation(name: str, text: str, answer: Json, error: Json, content: Json, *refusals: int) -> Json:
    good = {"200": {"description": "The predictions.", "content": {"application/json": {"schema": answer}}}}
    return {
        "operationId": name,
        "summary": text,
        "requestBody": {"required": True, "content": content},
        "responses": good | _refused(error, *_REFUSALS, *refusals),
    }


def _get(name: str, text: str, names: list[str], error: Json, *refusals: int) -> Json:
    good = {"200": {"description": text, "content": {"application/json": {"schema": _OBJECT}}}}
    found: Json = {"operationId": name, "summary": text, "responses": good | _refused(error, *refusals)}
    return found | ({"parameters": _parameters(names)} if names else {})


def _parameters(names: list[str]) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]


def _refused(error: Json, *statuses: int) -> Json:
    content = {"application/json": {"schema": error}}
    return {str(each): {"description": HTTPStatus(each).phrase, "content": content} for each in statuses}


def _error(**members: Json) -> Json:
    return {"type": "object", "required": list(members), "properties": members, "additionalProperties": False}
