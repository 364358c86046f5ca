"""MLflow's scoring protocol, as in `mlflow models serve`: POST /invocations, GET /ping and GET /version.

Predictions are those of pyfunc: the numbers of a Booster, or the class index of an XGBClassifier. Unlike the reference,
the service rejects a string or a boolean in place of a number instead of converting it. Like the reference, it ignores
unknown columns and unknown `params`.

Source: mlflow/pyfunc/scoring_server of the version below.
"""

from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar

import numpy as np
import orjson
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.endpoints.base import json_list
from app.endpoints.predict import Predict
from app.endpoints.protocols.base import Protocol, sentence
from app.endpoints.protocols.mlflow.forms import (
    Sheet,
    from_columns,
    from_csv,
    from_records,
    from_split,
    numbers_of_csv,
    without_nan,
)
from app.errors import InvalidInputError, NotJsonError, TooLargeError, problem_document, problem_response
from app.http.body import Body, Media
from app.http.front import Direct
from app.loaded import Loaded
from app.model import pieces
from app.model.base import Model
from app.model.output import Predictions
from app.model.parameters import picked
from app.model.rows import Rows
from app.model.signature import Signature
from app.model.xgboost import BoosterModel
from app.service import Service

REFERENCE = "3.17.2"  # version of MLflow whose protocol is served; returned by /version
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_MEMBERS = frozenset(FORMS)
_ONE_FORM = f"The body must be a JSON object with exactly one of {', '.join(FORMS)}."
# Error codes of mlflow.exceptions by status. All other statuses become BAD_REQUEST or INTERNAL_ERROR.
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 404: "ENDPOINT_NOT_FOUND"} | {
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Invocations(Predict):
    """The endpoint POST /invocations."""

    vary: ClassVar[bytes] = b"Accept-Encoding"
    media: ClassVar[Media] = Media.of(
        "JSON or CSV in UTF-8",
        "application/json, text/csv",
        "Content-Type: application/json or text/csv",
        rb"text/csv[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?",
    )

    def read(self, loaded: Loaded, content: bytes, received: Body) -> Rows:
        """Parse the body.

        Raises:
            NotJsonError: The body is neither JSON nor CSV.
            InvalidInputError: The body has none of the supported forms.
            TooLargeError: The body has too many rows.
        """
        signature = loaded.model.signature
        csv = received.kind[:8].lower() == b"text/csv"
        typed = loaded.reader.typed
        narrow = numbers_of_csv(content, typed) if csv else typed.read(content, _MEMBERS)
        if narrow is not None and len(narrow) <= self._settings.max_rows:
            return Rows(len(narrow), lambda: narrow, lambda: self._checked(content, csv, signature).payload())
        return self._checked(content, csv, signature)

    def _checked(self, content: bytes, csv: bool, signature: Signature) -> Rows:
        """Parse a body whose cells are checked one by one."""
        if csv:
            table, params = from_csv(content, signature.columns, self._settings.max_rows), None
        else:
            table, params = _table(content, signature, self._settings.max_rows)
        if not table.rows:
            raise InvalidInputError("There must be at least one row.")
        if (count := len(table.rows)) > self._settings.max_rows:
            raise TooLargeError(f"The body has {count} rows; the limit is {self._settings.max_rows}.")
        known = table.only(frozenset(signature.names))
        payload = {"columns": known.columns, "data": known.rows}
        parameters = signature.defaults
        if signature.parameters and params is not None:
            parameters = picked(signature.parameters, params)
        unseen: list[str] = []
        matrix = partial(signature.from_split, known.columns, known.rows, unseen)
        return Rows(len(known.rows), matrix, lambda: payload, parameters, unseen)

    def write(self, loaded: Loaded, predictions: Predictions, rows: Rows) -> bytes:
        """Return the response body with pyfunc's predictions."""
        del rows
        return orjson.dumps({"predictions": json_list(_pyfunc(loaded.model, predictions))})


def protocol(service: Service) -> Protocol:
    """Return the protocol with its routes."""

    async def ping(_: Request) -> Response:
        if not (reasons := service.reasons):
            return Response(b"\n", media_type="application/json")
        problem = problem_document(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "; ".join(reasons))
        return problem_response(problem, {"Retry-After": "5"})

    async def version(_: Request) -> Response:
        return Response(REFERENCE, media_type="application/json")

    invocations = Invocations(service)
    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/ping", ping),
        Route("/version", version),
    ]
    return Protocol(
        routes, ("invocations", "ping", "version"), error, [Direct("/invocations", invocations, "/invocations")]
    )


def error(problem: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return a problem in MLflow's error format, in which invalid input has status 400."""
    status = problem["status"]
    code = _CODES.get(status) or ("BAD_REQUEST" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL_ERROR")
    content = {"error_code": code, "message": sentence(problem)}
    return content, 400 if status == HTTPStatus.UNPROCESSABLE_ENTITY else status, "application/json"


def _table(content: bytes, signature: Signature, most: int) -> tuple[Sheet, Any]:
    """Return the rows of a JSON body and its `params`."""
    try:
        # It accepts NaN, which MLflow's client sends for missing values.
        body = pieces.parsed(content, from_json, most)
    except ValueError:
        raise NotJsonError("The body is not valid JSON.") from None
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
    # For a tensor, each value is the list of one row.
    if len(names) == 1 and (signature.columns[0].shape or not any(isinstance(each, list) for each in data)):
        return Sheet(list(names), [[each] for each in data])
    return Sheet(list(names), data)


def _pyfunc(model: Model, predictions: Predictions) -> list[Any]:
    """Convert the service's predictions to those of MLflow's pyfunc."""
    output, numbers = model.output, predictions.numbers
    if not isinstance(model, BoosterModel) or numbers is None:
        return _unwrapped(model, predictions.values)
    if output.form == "label" and not model.sklearn_classifier:
        return list(map(float, output.labels(numbers)))
    if output.form == "label" or (output.form == "probabilities" and model.sklearn_classifier):
        return output.labels(numbers)
    if output.task == "multilabel" and model.sklearn_classifier:
        numbers = (numbers > 0.5).astype(np.float32)
    found: list[Any] = (numbers[:, 0] if output.width == 1 else numbers).tolist()
    return found


def _unwrapped(model: Model, predictions: list[Any]) -> list[Any]:
    """Convert the predictions of a pyfunc model back to what the model returned: labels, numbers or records."""
    output = model.output
    if output.form == "label":
        return [each["label"] for each in predictions]
    if output.form == "probabilities":
        rows = [[each["probabilities"][name] for name in output.classes] for each in predictions]
        return [row[1] for row in rows] if output.width == 1 else rows
    return predictions
