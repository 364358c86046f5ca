"""Describe the API as OpenAPI 3.1, with the columns, classes and input example of the loaded model.

What the model takes and answers is said by app.schemas.
"""

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.auth import OPEN_PATHS
from app.explain import EXPLAIN
from app.feedback import FEEDBACK
from app.loading import Service
from app.model import Model
from app.protocols import description
from app.schemas import Json, explanations, labels, predictions, records, ref, scored, split

_REFUSALS = (400, 408, 413, 415, 422, 500, 503, 504)
_TEMPORARY = (503, 504)


class CellProblem(BaseModel):
    """One place of the input that is wrong; rows count from 0, null stands for all."""

    row: int | None
    column: str | None
    problem: str


class ProblemDetails(BaseModel):
    """An error, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[CellProblem] = []
    error_count: int | None = None


def document(app: FastAPI, service: Service) -> Json:
    """Return the description of all routes; before a model is loaded, its columns are any."""
    openapi = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    model = service.loaded.model if service.loaded else None
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=ref("{model}")["$ref"])
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas |= problems["$defs"] | {
        "Predictions": predictions(model),
        "Explanations": explanations(model),
    }
    settings = service.settings
    predict = _operation("predict", "Predict each row of the body.", model, settings.max_rows)
    predict["responses"]["200"] |= _answer("One prediction per row, in the order of the rows.", "Predictions")
    text = "Predict each row of the body, and say what each column adds: SHAP values, which sum to the margin."
    explain = _operation("explain", text, model, min(settings.max_rows, settings.max_explain_rows))
    explain["responses"]["200"] |= _answer("One explanation per row, in the order of the rows.", "Explanations")
    if settings.feedback_keys_dir:
        schemas |= {"Labels": labels(model, settings.max_rows), "Scored": scored()}
        openapi["paths"][FEEDBACK] = {"post": _feedback()}
        tokens = {"type": "array", "items": {"type": "string"}, "description": "One a prediction, for POST /feedback."}
        schemas["Predictions"]["properties"]["tokens"] = tokens
        schemas["Predictions"]["required"].append("tokens")
    explains = {EXPLAIN: {"post": explain}} if model is None or model.explainable else {}
    openapi |= {"paths": {"/predict": {"post": predict}} | explains | openapi["paths"]}
    openapi["paths"] |= description.paths(settings, service.loaded)
    return _secured(openapi) if service.settings.api_keys_dir else openapi


def problem(description: str) -> Json:
    """Return what a route says about an error answer."""
    return {"description": description, "content": {"application/problem+json": {"schema": ref("ProblemDetails")}}}


def _secured(openapi: Json) -> Json:
    """Say which operations need an API key."""
    text = "One of the keys in the Secret that the service was given."
    openapi["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": text}}
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in OPEN_PATHS else [{"key": []}]
            if path not in OPEN_PATHS:
                operation["responses"].setdefault("401", problem("No valid API key."))
    return openapi


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def _operation(name: str, description: str, model: Model | None, most: int) -> Json:
    body: Json = {"schema": {"oneOf": [records(model, most), split(model, most)]}}
    if model and (example := model.example):
        listed = [dict(zip(example["columns"], row, strict=True)) for row in example["data"]]
        body["examples"] = {"records": {"value": {"instances": listed}}, "split": {"value": example}}
    request_id = {"description": "Of the request: the caller's, or a new one.", "schema": {"type": "string"}}
    answers: Json = {"200": {}}
    for status in _REFUSALS:
        answers[str(status)] = problem(HTTPStatus(status).phrase)
    for code, answer in answers.items():
        answer["headers"] = {"X-Request-ID": request_id}
        if int(code) in _TEMPORARY:
            answer["headers"]["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    header = {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string"}}
    return {
        "operationId": name,
        "summary": name.capitalize(),
        "description": description,
        "parameters": [header | {"description": "At most 128 letters, digits and ._:+/=@-; comes back in the answer."}],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": answers,
    }


def _feedback() -> Json:
    answers: Json = {str(status): problem(HTTPStatus(status).phrase) for status in (400, 408, 413, 415, 422, 503)}
    answers["200"] = _answer("Some or all of the labels were scored.", "Scored")
    return {
        "operationId": "feedback",
        "summary": "Feedback",
        "description": "Say what turned out to be true of earlier predictions, by their tokens.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref("Labels")}}},
        "responses": answers,
    }
