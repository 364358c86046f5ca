"""OpenAPI 3.1 description of the API, with the columns, classes and input example of the loaded model.

The schemas of the model's input and output are in app.endpoints.schemas.
"""

import re
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.endpoints.arrow import ARROW
from app.endpoints.explain import EXPLAIN
from app.endpoints.feedback import FEEDBACK
from app.endpoints.protocols import openapi as protocols
from app.endpoints.schemas import Json, explanations, labels, matrix, predictions, records, ref, scored, split
from app.http import codings
from app.http.auth import OPEN_PATHS
from app.model.base import Model
from app.service import Service
from app.settings import Settings

_DOCUMENTATION = "https://github.com/model-service/model-service"
# Not among the media types, which have a schema each.
_ARROW = f"JSON, or an Arrow IPC stream ({ARROW}) with one column per column of the model."
_REFUSALS = (400, 408, 413, 415, 422, 500, 503, 504)
_TEMPORARY = (503, 504)
_RETRY_AFTER = {"description": "Seconds to wait before the next attempt.", "schema": {"type": "integer"}}
_TAGS = {
    "Predict": "Predictions of the served model.",
    "Explain": "SHAP values: how much each column contributes to a prediction.",
    "Feedback": "Labels that arrive after their predictions, to monitor the quality of the model.",
    "Model": "Name, version and origin of the served model.",
    "Health": "Liveness and readiness of this pod, for probes and load balancers.",
    "MLflow protocol": "The endpoints of an MLflow scoring server, for clients of `mlflow models serve`.",
    "Open Inference Protocol": "The V2 inference protocol of KServe and Triton, over HTTP.",
}


class CellProblem(BaseModel):
    """One invalid place in the input. Rows count from 0; null stands for all rows or columns."""

    row: int | None
    column: str | None
    problem: str


class ProblemDetails(BaseModel):
    """An error in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[CellProblem] = []
    error_count: int | None = None


def document(app: FastAPI, service: Service) -> Json:
    """Return the description of all routes. Before a model is loaded, any column is allowed."""
    text = _description(service)
    openapi = get_openapi(title=app.title, version=app.version, description=text, routes=app.routes)
    model = service.loaded.model if service.loaded else None
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=ref("{model}")["$ref"])
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas |= problems["$defs"] | {
        "Predictions": predictions(model),
        "Explanations": explanations(model),
    }
    settings = service.settings
    predict = _operation(
        "predict", "Predict rows", "Returns one prediction per row of the body.", model, settings.max_rows
    )
    predict["responses"]["200"] |= _answer("One prediction per row, in the order of the rows.", "Predictions")
    text = "Returns each prediction with the SHAP values of its columns, which sum to the margin."
    explain = _operation(
        "explain", "Explain predictions", text, model, min(settings.max_rows, settings.max_explain_rows)
    )
    explain["responses"]["200"] |= _answer("One explanation per row, in the order of the rows.", "Explanations")
    if settings.feedback_keys_dir:
        schemas |= {"Labels": labels(model, settings.max_rows), "Scored": scored()}
        openapi["paths"][FEEDBACK] = {"post": _feedback()}
        tokens = {
            "type": "array",
            "items": {"type": "string"},
            "description": "One token per prediction, for POST /feedback.",
        }
        schemas["Predictions"]["properties"]["tokens"] = tokens
        schemas["Predictions"]["required"].append("tokens")
    explains = {EXPLAIN: {"post": explain}} if model is None or model.explainable else {}
    openapi |= {"paths": {"/predict": {"post": predict}} | explains | openapi["paths"]}
    openapi["paths"] |= protocols.paths(settings, service.loaded)
    openapi["tags"] = _tags(openapi["paths"])
    if settings.quotas_file:
        _limit(openapi)
    return _secured(openapi, settings) if settings.authenticates else openapi


def _description(service: Service) -> str:
    """Return the introduction of the page /docs, in Markdown."""
    if service.loaded:
        provenance = service.loaded.model.provenance
        name, version = _plain(provenance.name), _plain(provenance.version)
        text = f"Predictions of the MLflow model **{name}**, version **{version}**."
    else:
        name = _plain(service.settings.served_name)
        text = f"Predictions of the MLflow model **{name}**. The model is not loaded yet."
    # Relative, because a proxy may strip a prefix from the path of this page.
    page = "[Model page](./) · " if service.settings.pages_enabled else ""
    return f"{text}\n\n{page}[Documentation]({_DOCUMENTATION})"


def _plain(name: str) -> str:
    """Return a name as Markdown that shows it literally, because names come from outside the service."""
    return re.sub(r"([\\`*_\[\]<>&!#|~])", r"\\\1", " ".join(name.split()))


def _tags(paths: Json) -> list[Json]:
    """Return the tags that operations have, each with its description."""
    used = {tag for methods in paths.values() for operation in methods.values() for tag in operation["tags"]}
    return [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]


def problem(description: str) -> Json:
    """Return the description of an error response."""
    return {"description": description, "content": {"application/problem+json": {"schema": ref("ProblemDetails")}}}


def _secured(openapi: Json, settings: Settings) -> Json:
    """Add the security schemes to the operations that require an API key or an access token."""
    schemes: Json = {}
    if settings.api_keys_dir:
        text = "One of the API keys in the Secret of this service."
        schemes["key"] = {"type": "http", "scheme": "bearer", "description": text}
    if settings.jwt_issuer:
        text = f"An access token of {settings.jwt_issuer} for the audience {settings.jwt_audience}."
        if settings.jwt_required_scopes:
            text += f" Scopes: {', '.join(settings.jwt_required_scopes)}."
        schemes["token"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": text}
    openapi["components"]["securitySchemes"] = schemes
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if path in OPEN_PATHS else [{name: []} for name in schemes]
            if path not in OPEN_PATHS:
                operation["responses"].setdefault("401", problem(f"No valid {' or '.join(schemes)}."))
                if settings.jwt_required_scopes:
                    operation["responses"].setdefault("403", problem("The token lacks a scope."))
    return openapi


def _limit(openapi: Json) -> None:
    """Add the response to a caller that has used up its quota to the operations that the quotas cover."""
    texts = {
        "RateLimit-Policy": "Limits of the caller: units (q) that refill evenly within seconds (w).",
        "RateLimit": "Units that the caller has left (r), and seconds until the next one (t).",
    }
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}
    for methods in openapi["paths"].values():
        if answers := methods.get("post", {}).get("responses"):
            refused = answers.setdefault("429", problem("The quota of the caller is used up."))
            refused["headers"] = headers | {"Retry-After": _RETRY_AFTER}


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def _operation(name: str, summary: str, description: str, model: Model | None, most: int) -> Json:
    body: Json = {"schema": {"oneOf": [records(model, most), matrix(model, most), split(model, most)]}}
    if model and (example := model.example):
        listed = [dict(zip(example["columns"], row, strict=True)) for row in example["data"]]
        body["examples"] = {"records": {"value": {"instances": listed}}, "split": {"value": example}}
    request_id = {
        "description": "ID of the request: the value that the client sent, or a new one.",
        "schema": {"type": "string"},
    }
    answers: Json = {"200": {}}
    for status in _REFUSALS:
        answers[str(status)] = problem(HTTPStatus(status).phrase)
    for code, answer in answers.items():
        answer["headers"] = {"X-Request-ID": request_id}
        if int(code) in _TEMPORARY:
            answer["headers"]["Retry-After"] = _RETRY_AFTER
    coding = "Coding of the body, if it has one: the request's Accept-Encoding asks for it."
    answers["200"]["headers"] |= {
        "Content-Encoding": {"description": coding, "schema": {"type": "string", "enum": list(codings.CODINGS)}}
    }
    header = {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string"}}
    return {
        "operationId": name,
        "tags": [name.capitalize()],
        "summary": summary,
        "description": description,
        "parameters": [header | {"description": "At most 128 letters, digits and ._:+/=@-; returned in the response."}],
        "requestBody": {
            "required": True,
            "description": f"{_ARROW} {codings.TAKEN}",
            "content": {"application/json": body},
        },
        "responses": answers,
    }


def _feedback() -> Json:
    answers: Json = {str(status): problem(HTTPStatus(status).phrase) for status in (400, 408, 413, 415, 422, 503)}
    answers["200"] = _answer("Some or all of the labels were scored.", "Scored")
    return {
        "operationId": "feedback",
        "tags": ["Feedback"],
        "summary": "Send labels",
        "description": "Scores earlier predictions with the labels that turned out to be true. "
        "Each label comes with the token of its prediction.",
        "requestBody": {
            "required": True,
            "description": codings.TAKEN,
            "content": {"application/json": {"schema": ref("Labels")}},
        },
        "responses": answers,
    }
