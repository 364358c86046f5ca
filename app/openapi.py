"""Describe the API as OpenAPI 3.1, with the columns, classes and input example of the loaded model.

What a caller may send is decided in app.signature; this says the same in JSON Schema.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.auth import OPEN_PATHS
from app.columns import Column
from app.explain import EXPLAIN
from app.feedback import FEEDBACK
from app.loading import Service
from app.model import Model
from app.output import Output
from app.protocols import description

Json = dict[str, Any]

_REFUSALS = (400, 408, 413, 415, 422, 500, 503, 504)
_TEMPORARY = (503, 504)
# Of values that are no numbers. What MLflow's own types hold is checked by MLflow.
_OTHER_TYPES: dict[str, Json] = {
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "array": {"type": "array"},
    "map": {"type": "object"},
    "object": {"type": "object"},
    "any": {},
}


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
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=_ref("{model}")["$ref"])
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas |= problems["$defs"] | {
        "Predictions": _predictions(model),
        "Explanations": _explanations(model),
    }
    settings = service.settings
    predict = _operation("predict", "Predict each row of the body.", model, settings.max_rows)
    predict["responses"]["200"] |= _answer("One prediction per row, in the order of the rows.", "Predictions")
    text = "Predict each row of the body, and say what each column adds: SHAP values, which sum to the margin."
    explain = _operation("explain", text, model, min(settings.max_rows, settings.max_explain_rows))
    explain["responses"]["200"] |= _answer("One explanation per row, in the order of the rows.", "Explanations")
    if settings.feedback_keys_dir:
        schemas |= {"Labels": _labels(model, settings.max_rows), "Scored": _scored()}
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
    return {"description": description, "content": {"application/problem+json": {"schema": _ref("ProblemDetails")}}}


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
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _operation(name: str, description: str, model: Model | None, most: int) -> Json:
    body: Json = {"schema": {"oneOf": [_records(model, most), _split(model, most)]}}
    if model and (example := model.example):
        records = [dict(zip(example["columns"], row, strict=True)) for row in example["data"]]
        body["examples"] = {"records": {"value": {"instances": records}}, "split": {"value": example}}
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


def _records(model: Model | None, most: int) -> Json:
    row: Json = {"type": "object"}
    if model:
        columns = model.signature.columns
        row |= {
            "properties": {column.name: _cell(column) for column in columns},
            "required": [column.name for column in columns if column.required],
            "additionalProperties": False,
        }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    return _with_params(model, _object("Records", "A value per column and row.", instances=rows))


def _split(model: Model | None, most: int) -> Json:
    names: Json = {"type": "array", "items": {"type": "string"}}
    row: Json = {"type": "array"}
    if model:
        columns = model.signature.columns
        names = _tuple([{"const": column.name} for column in columns])
        row = _tuple([_cell(column) for column in columns])
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    text = (
        "The columns once, then the values: the fast form for many rows. "
        "Another order is taken as well, and columns that are not required may be left out."
    )
    return _with_params(model, _object("Split", text, columns=names, data=rows))


def _with_params(model: Model | None, form: Json) -> Json:
    """Add the parameters of the model's own, if it takes any."""
    if model and model.signature.parameters:
        properties: Json = {}
        for each in model.signature.parameters:
            value = _cell(each.column)
            properties[each.name] = ({"type": "array", "items": value} if each.many else value) | {
                "default": each.default
            }
        form["properties"]["params"] = {"type": "object", "properties": properties, "additionalProperties": False}
    return form


def _model_name() -> Json:
    text = {"type": "string"}
    return _object("ModelName", "The model that answered.", name=text, version=text)


def _predictions(model: Model | None) -> Json:
    items = _prediction(model.output) if model else {}
    return _object("Predictions", "", model=_model_name(), predictions={"type": "array", "items": items})


def _labels(model: Model | None, most: int) -> Json:
    label: Json = {}
    if model:
        label = {"type": "number"} if model.output.form == "number" else {"enum": list(model.output.classes)}
    entry = _object("Label", "", token={"type": "string"}, label=label | {"description": "What turned out to be true."})
    return _object("Labels", "", labels={"type": "array", "items": entry, "minItems": 1, "maxItems": most})


def _scored() -> Json:
    rejected: Json = {"type": "array", "items": _ref("CellProblem"), "description": "Which were not, and why."}
    accepted: Json = {"type": "integer", "description": "How many labels were scored."}
    return _object("Scored", "", accepted=accepted, rejected=rejected)


def _feedback() -> Json:
    answers: Json = {str(status): problem(HTTPStatus(status).phrase) for status in (400, 408, 413, 415, 422, 503)}
    answers["200"] = _answer("Some or all of the labels were scored.", "Scored")
    return {
        "operationId": "feedback",
        "summary": "Feedback",
        "description": "Say what turned out to be true of earlier predictions, by their tokens.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Labels")}}},
        "responses": answers,
    }


def _explanations(model: Model | None) -> Json:
    number: Json = {"type": "number"}
    added: Json = {"type": "object", "additionalProperties": number}
    known: Json = {}
    if model:
        added = _object(
            "Contributions", "What each column adds to the base value.", **dict.fromkeys(model.signature.names, number)
        )
        if classes := model.output.margins(0):
            known = {
                "class": {"enum": [each["class"] for each in classes], "description": "For which the margin speaks."}
            }
    base = number | {"description": "The margin of a row of which nothing is known."}
    margin = number | {"description": "What the trees add up to, before the objective makes it the prediction."}
    output = _object("ExplainedOutput", "", **known, base_value=base, margin=margin, contributions=added)
    text = "One for each margin: each class of several, the second of two classes, each number of a prediction."
    outputs = {"type": "array", "items": output, "minItems": 1, "description": text}
    row = _object("Explanation", "", prediction=_prediction(model.output) if model else {}, outputs=outputs)
    return _object("Explanations", "", model=_model_name(), explanations={"type": "array", "items": row})


def _prediction(output: Output) -> Json:
    if output.form == "number":
        return {"type": "number"}
    if output.form == "numbers":
        return {"type": "array", "items": {"type": "number"}, "minItems": output.width, "maxItems": output.width}
    if output.form == "record":
        return _object(
            "Record", "The model's numbers and strings by their names.", **{name: {} for name in output.names}
        )
    label: Json = {"type": "string", "description": "The likeliest class."}
    if output.classes:
        label["enum"] = list(output.classes)
    if output.form == "label":
        return _object("ClassPrediction", "", label=label)
    share = {"type": "number", "minimum": 0, "maximum": 1}
    shares = _object("Probabilities", "Of each class.", **dict.fromkeys(output.classes, share))
    return _object("ClassPrediction", "", label=label, probabilities=shares)


def _cell(column: Column) -> Json:
    if column.categories:
        return {"enum": [*column.categories, *([None] if column.nullable else [])]}
    if column.shape:
        return _tensor(replace(column, shape=()), column.shape)
    if (schema := _OTHER_TYPES.get(column.type)) is None:
        low, high = column.bounds or (-column.largest, column.largest)
        schema = {"type": "integer" if column.bounds else "number", "minimum": low, "maximum": high}
    if "type" not in schema:
        return schema
    return schema | ({"type": [schema["type"], "null"]} if column.nullable else {})


def _tensor(column: Column, shape: tuple[int, ...]) -> Json:
    """Describe one row of a tensor: nested arrays, of the lengths that are known."""
    if not shape:
        return _cell(column)
    length = {} if shape[0] == -1 else {"minItems": shape[0], "maxItems": shape[0]}
    return {"type": "array", "items": _tensor(column, shape[1:])} | length


def _tuple(items: list[Json]) -> Json:
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}


def _object(title: str, description: str, **properties: Json) -> Json:
    """Return the schema of an object that has these members and no other."""
    schema = {"type": "object", "title": title, "description": description, "properties": properties}
    return schema | {"required": list(properties), "additionalProperties": False}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
