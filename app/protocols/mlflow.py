"""Speak MLflow's scoring protocol, as `mlflow models serve` does: POST /invocations, GET /ping and /version.

Source: mlflow/pyfunc/scoring_server of the version below. Answers are pyfunc's: a Booster's own numbers, the number of
the class where an XGBClassifier was logged. Stricter than the reference where it would guess: a number in quotes or a
boolean for a number is refused. As there, columns that the model does not have are passed over, and so is `params`.
"""

from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from app.body import Media
from app.errors import InvalidInputError, NotJsonError, TooLargeError, problem_document, problem_response
from app.loading import Loaded, Service
from app.model import BoosterModel, Model
from app.parameters import picked
from app.predict import Predict
from app.protocols.forms import Sheet, from_columns, from_csv, from_records, from_split, without_nan
from app.protocols.spoken import Spoken, sentence
from app.rows import Rows
from app.signature import Signature

REFERENCE = "3.17.2"  # the version whose protocol this is, and what /version says
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_ONE_FORM = f"The body must be a JSON object with exactly one of {', '.join(FORMS)}."
# By status, from mlflow.exceptions; what it has no code for is a bad request or a fault.
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 404: "ENDPOINT_NOT_FOUND"} | {
    422: "INVALID_PARAMETER_VALUE",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Invocations(Predict):
    """POST /invocations of a service."""

    media: ClassVar[Media] = Media.of(
        "JSON or CSV in UTF-8",
        "application/json, text/csv",
        "Content-Type: application/json or text/csv",
        rb"text/csv[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?",
    )

    def read(self, loaded: Loaded, content: bytes, scope: Scope) -> Rows:
        """Return the rows of a body.

        Raises:
            NotJsonError: it is neither JSON nor CSV.
            InvalidInputError: it has none of the forms.
            TooLargeError: it has too many rows.
        """
        signature = loaded.model.signature
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        if kind[:8].lower() == b"text/csv":
            table, params = from_csv(content, signature.columns, self._settings.max_rows), None
        else:
            table, params = _table(content, signature)
        if not table.rows:
            raise InvalidInputError("There must be at least one row.")
        if (count := len(table.rows)) > self._settings.max_rows:
            raise TooLargeError(f"The body has {count} rows; at most {self._settings.max_rows} are taken at once.")
        known = table.only(frozenset(signature.names))
        payload = {"columns": known.columns, "data": known.rows}
        parameters = signature.defaults
        if signature.parameters and params is not None:
            parameters = picked(signature.parameters, params)
        matrix = partial(signature.from_split, known.columns, known.rows)
        return Rows(len(known.rows), matrix, lambda: payload, parameters)

    def write(self, loaded: Loaded, predictions: list[Any], rows: Rows) -> bytes:
        """Return pyfunc's answer."""
        del rows
        return orjson.dumps({"predictions": _pyfunc(loaded.model, predictions)})


def spoken(service: Service) -> Spoken:
    """Return the endpoints of a service."""

    async def ping(_: Request) -> Response:
        if not (reasons := service.reasons):
            return Response(b"\n", media_type="application/json")
        problem = problem_document(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "; ".join(reasons))
        return problem_response(problem, {"Retry-After": "5"})

    async def version(_: Request) -> Response:
        return Response(REFERENCE, media_type="application/json")

    routes = [
        Route("/invocations", Invocations(service), methods=["POST"]),
        Route("/ping", ping),
        Route("/version", version),
    ]
    return Spoken(routes, ("invocations", "ping", "version"), error)


def error(problem: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return a problem as MLflow writes errors; wrong input is a 400 there."""
    status = problem["status"]
    code = _CODES.get(status) or ("BAD_REQUEST" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL_ERROR")
    content = {"error_code": code, "message": sentence(problem)}
    return content, 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status, "application/json"


def _table(content: bytes, signature: Signature) -> tuple[Sheet, Any]:
    """Return the rows of a JSON body, and its `params`."""
    try:
        body = from_json(content)  # with NaN, which MLflow's own client sends for missing values
    except ValueError:
        raise NotJsonError("The body is no JSON.") from None
    forms = [form for form in FORMS if form in body] if isinstance(body, dict) else []
    if len(forms) != 1:
        raise InvalidInputError(_ONE_FORM)
    form, data = forms[0], without_nan(body[forms[0]]) if b"NaN" in content else body[forms[0]]
    return _sheet(form, data, signature), body.get("params")


def _sheet(form: str, data: Any, signature: Signature) -> Sheet:
    names = signature.names
    if form == "dataframe_split":
        return from_split(data)
    if form == "dataframe_records" or (isinstance(data, list) and data and isinstance(data[0], dict)):
        return from_records(data, form, names)
    if isinstance(data, dict):
        return from_columns(data, form)
    if not isinstance(data, list):
        raise InvalidInputError(f"{form} must be a list of records or an object of columns.")
    # Of a tensor, each value is the list of one row's.
    if len(names) == 1 and (signature.columns[0].shape or not any(isinstance(each, list) for each in data)):
        return Sheet(list(names), [[each] for each in data])
    return Sheet(list(names), data)


def _pyfunc(model: Model, predictions: list[Any]) -> list[Any]:
    """Return what MLflow's pyfunc answers, from the service's own predictions."""
    output = model.output
    if not isinstance(model, BoosterModel):
        return _unwrapped(model, predictions)
    if output.form == "label":
        numbers = [output.classes.index(each["label"]) for each in predictions]
        return numbers if model.picks else list(map(float, numbers))
    if output.form == "probabilities" and model.picks:
        return [output.classes.index(each["label"]) for each in predictions]
    if output.form == "probabilities":
        rows = [[each["probabilities"][name] for name in output.classes] for each in predictions]
        return [row[1] for row in rows] if output.task == "binary" else rows
    if output.task == "multilabel" and model.picks:
        return [[float(share > 0.5) for share in row] for row in predictions]
    return predictions


def _unwrapped(model: Model, predictions: list[Any]) -> list[Any]:
    """Return the answers of a model of another flavor, which has given them itself: labels, numbers, records."""
    output = model.output
    if output.form == "label":
        return [each["label"] for each in predictions]
    if output.form == "probabilities":
        rows = [[each["probabilities"][name] for name in output.classes] for each in predictions]
        return [row[1] for row in rows] if output.width == 1 else rows
    return predictions
