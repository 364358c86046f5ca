"""The routes: what is asked over HTTP and answered in JSON. Metrics have their own route in app.metrics."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.errors import (
    InvalidInputError,
    ModelFaultError,
    NotJsonError,
    NotReadyError,
    ProblemError,
    TooLargeError,
)
from app.loading import Loaded, Service
from app.settings import Settings
from app.signature import Matrix

# A hop to a thread costs about 0.1 ms. 100 rows take 0.4 ms with 100 trees and 1.5 ms with 500: up to here the
# hop would cost more than it spares the other requests, beyond it the event loop has to stay free.
INLINE_ROWS = 100

_FORMS = 'Send {"instances": [{column: value}]} or {"columns": [...], "data": [[...]]}.'

log = logging.getLogger(__name__)
router = APIRouter()


class ModelName(BaseModel):
    """The model that answered."""

    name: str
    version: str


class ClassPrediction(BaseModel):
    """The likeliest class, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Predictions(BaseModel):
    """One prediction per row, in the order of the rows: an object for classes, a number for a regression."""

    model: ModelName
    predictions: list[ClassPrediction] | list[float]


class CellProblem(BaseModel):
    """One place of the input that is wrong; rows count from 0."""

    row: int | None
    column: str | None
    problem: str


class ProblemDetails(BaseModel):
    """An error, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[CellProblem] = []
    error_count: int | None = None


_REQUEST_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {
                        "type": "object",
                        "title": "Records",
                        "properties": {"instances": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
                        "required": ["instances"],
                        "additionalProperties": False,
                    },
                    {
                        "type": "object",
                        "title": "Split",
                        "properties": {
                            "columns": {"type": "array", "items": {"type": "string"}},
                            "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
                        },
                        "required": ["columns", "data"],
                        "additionalProperties": False,
                    },
                ]
            }
        }
    },
}
_PROBLEM = {"model": ProblemDetails, "content": {"application/problem+json": {}}}


@router.post(
    "/predict",
    response_model=Predictions,
    responses=dict.fromkeys((400, 413, 422, 500, 503), _PROBLEM),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(request: Request) -> Response:
    """Predict each row of the body; the columns are those of GET /model's `signature`."""
    loaded, settings = _loaded(request), _service(request).settings
    try:
        payload = _parse(await _body(request, settings.max_body_bytes))
        convert, count = _rows(loaded, payload, settings)
        if count <= INLINE_ROWS:
            content = _predictions(loaded, convert)
        else:
            content = await asyncio.to_thread(_predictions, loaded, convert)
    except ProblemError as problem:
        if problem.reason:
            loaded.metrics.errors[problem.reason].inc()
        raise
    return Response(content, media_type="application/json")


@router.get("/model", responses={503: _PROBLEM})
async def describe_model(request: Request) -> dict[str, Any]:
    """Say which model answers and where it comes from, with an input example to send to /predict."""
    return _loaded(request).model.document()


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the event loop turns: a restart would help against nothing else."""
    return {"status": "alive"}


@router.get("/health", responses={503: {}})
@router.get("/health/ready", responses={503: {}})
async def ready(request: Request) -> Response:
    """Answer 200 when requests are welcome, else 503 with the reasons. Asks nobody else."""
    service = _service(request)
    if reasons := service.reasons:
        return _json({"status": "not ready", "reasons": reasons}, status=503)
    return _json({"status": "ready", "reasons": []})


def _predictions(loaded: Loaded, convert: Callable[[], Matrix]) -> bytes:
    """Validate, predict and write the answer; runs in the event loop or in a thread."""
    metrics, model = loaded.metrics, loaded.model
    with metrics.validate.time():
        rows = convert()
    try:
        with metrics.predict.time():
            predictions = model.predict(rows)
        with metrics.respond.time():
            name = {"name": model.provenance.name, "version": model.provenance.version}
            content = json.dumps({"model": name, "predictions": predictions}, allow_nan=False).encode()
    except Exception as error:
        log.error("the model failed on valid input", exc_info=True, extra={"rows": len(rows)})
        raise ModelFaultError("The model failed on this input; the service's log says where.") from error
    metrics.predictions.inc(len(rows))
    return content


def _rows(loaded: Loaded, payload: Any, settings: Settings) -> tuple[Callable[[], Matrix], int]:
    """Return how to convert the payload's rows, and how many there are."""
    signature = loaded.model.signature
    keys = payload.keys() if isinstance(payload, dict) else set()
    if keys == {"instances"}:
        rows, columns = payload["instances"], None
    elif keys == {"columns", "data"}:
        rows, columns = payload["data"], payload["columns"]
    else:
        raise InvalidInputError(_FORMS)
    if not isinstance(rows, list) or not rows or not isinstance(columns, list | None):
        raise InvalidInputError(f"There must be at least one row, in lists. {_FORMS}")
    if len(rows) > settings.max_rows:
        raise TooLargeError(f"The body has {len(rows)} rows; at most {settings.max_rows} are taken at once.")
    if columns is None:
        return lambda: signature.from_records(rows), len(rows)
    return lambda: signature.from_split(columns, rows), len(rows)


async def _body(request: Request, limit: int) -> bytes:
    """Read the body, but never more than the limit, whatever the headers say."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise TooLargeError(f"The body is announced as {announced[:20]} bytes; at most {limit} are taken.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"The body is larger than the {limit} bytes that are taken.")
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # ValueError: also of bad UTF-8 and of numbers with thousands of digits
        raise NotJsonError("The body is no JSON (which has no NaN and no Infinity; null is a missing value).") from None


def _refuse_constant(name: str) -> None:
    """Refuse what Python's parser takes beyond JSON: NaN and Infinity."""
    raise ValueError(name)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _loaded(request: Request) -> Loaded:
    service = _service(request)
    if service.loaded is None:
        raise NotReadyError("No model is loaded yet; GET /health says why.")
    return service.loaded


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content).encode(), status_code=status, media_type="application/json")
