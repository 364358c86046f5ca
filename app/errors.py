"""The exceptions of the service, and the HTTP status each becomes.

ServiceError
├── LoadError             the model cannot be loaded; ends the process sooner or later, no status of its own
│   └── UnknownError      (app.tracking) MLflow does not know the model, version or alias
└── ProblemError          an answer in RFC 9457's form
    ├── NotJsonError      400
    ├── UnauthorizedError 401   says nothing about what was wrong with the key
    ├── UnknownModelError 404   (app.protocols)
    ├── SlowBodyError     408   closes the connection
    ├── TooLargeError     413
    ├── UnsupportedMediaError 415   says what is taken
    ├── InvalidInputError 422   names rows and columns
    ├── ModelFaultError   500   says nothing about the payload or the code
    ├── NotExplainableError 501 the model cannot say what a column adds
    ├── NotReadyError     503   with Retry-After
    ├── OverloadedError   503   with Retry-After
    └── TimedOutError     504   with Retry-After
"""

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar

from starlette.responses import Response

from app.logs import REQUEST_ID

LISTED_ERRORS = 20  # a wrong column is wrong in every row: the first ones say it all
RETRY_AFTER_SECONDS = 5
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read it, but the metrics count it
OVERLOAD_RETRY_SECONDS = 1  # a queue drains faster than a model loads


class ServiceError(Exception):
    """Base of everything this service raises on purpose. Its text is for people."""


class LoadError(ServiceError):
    """Say in one clause why the model did not load, and in another what to do about it.

    Args:
        cause: what happened.
        remedy: what a person can do, in the imperative.
        retryable: it may work a moment later, without anyone changing this pod.
    """

    def __init__(self, cause: str, remedy: str, *, retryable: bool = False) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.retryable = retryable


@dataclass(frozen=True)
class CellError:
    """What is wrong at one place of the input; `row` counts from 0, None stands for all rows or columns."""

    row: int | None
    column: str | None
    problem: str


class ProblemError(ServiceError):
    """An error answer; its text is the `detail`.

    Args:
        detail: one sentence for the caller, free of values from the payload.
        errors: the first places that are wrong.
        total: how many there are in all.
    """

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    headers: Mapping[str, str] = MappingProxyType({})
    reason: ClassVar[str] = ""  # of model_errors_total; empty: not counted there

    def __init__(self, detail: str, errors: list[CellError] | None = None, total: int = 0) -> None:
        super().__init__(detail)
        self.errors = errors or []
        self.total = total

    def document(self) -> dict[str, Any]:
        """The body, an RFC 9457 problem with `errors` and their total as extensions."""
        document = problem_document(self.status, self.slug, str(self))
        if self.errors:
            document |= {"errors": [asdict(error) for error in self.errors], "error_count": self.total}
        return document


class NotJsonError(ProblemError):
    """The body is no JSON."""

    status = HTTPStatus.BAD_REQUEST
    slug = "not-json"
    reason = "invalid_input"


class UnauthorizedError(ProblemError):
    """The request has no valid API key."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

    def __init__(self) -> None:
        super().__init__("A valid API key is needed; send it as Authorization: Bearer <key>.")


class UnknownModelError(ProblemError):
    """Another model, or another version, is asked for than the one that is served."""

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-model"


class SlowBodyError(ProblemError):
    """The body did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "slow-body"
    headers: Mapping[str, str] = {"Connection": "close"}  # what still comes is not waited for
    reason = "timeout"


class TooLargeError(ProblemError):
    """The body or its number of rows is above the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    reason = "too_large"


class UnsupportedMediaError(ProblemError):
    """The body is compressed, or by its own words something that is not taken.

    Args:
        detail: says what to do.
        accepted: media types.
    """

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media"
    reason = "invalid_input"

    def __init__(self, detail: str, accepted: str = "application/json") -> None:
        super().__init__(detail)
        self.headers = {"Accept": accepted, "Accept-Encoding": "identity"}


class InvalidInputError(ProblemError):
    """The rows do not fit the model's signature."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-input"
    reason = "invalid_input"


class ModelFaultError(ProblemError):
    """The model failed on valid input."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "model-fault"
    reason = "model_error"


class NotExplainableError(ProblemError):
    """The model is none whose predictions can be explained."""

    status = HTTPStatus.NOT_IMPLEMENTED
    slug = "not-explainable"

    def __init__(self, flavor: str) -> None:
        super().__init__(f"A model of the flavor {flavor} is not explained; only XGBoost's are.")


class NotReadyError(ProblemError):
    """No model is loaded yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "not-ready"
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_SECONDS)}

    def __init__(self) -> None:
        super().__init__("No model is loaded yet; GET /health says why.")


class OverloadedError(ProblemError):
    """More requests than there are slots and places in the queue."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "overloaded"
    headers: Mapping[str, str] = {"Retry-After": str(OVERLOAD_RETRY_SECONDS)}
    reason = "overloaded"


class TimedOutError(ProblemError):
    """The prediction took longer than a request may."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    slug = "timeout"
    headers: Mapping[str, str] = {"Retry-After": str(OVERLOAD_RETRY_SECONDS)}
    reason = "timeout"


class ClientGoneError(ServiceError):
    """The caller closed the connection: nobody is left to answer."""


def problem_document(status: HTTPStatus, slug: str, detail: str) -> dict[str, Any]:
    """Build the members every problem has; the type is a name, not a page to fetch (RFC 9457, 3.1.1)."""
    kind = f"urn:model-service:{slug}" if slug else "about:blank"
    return {"type": kind, "title": status.phrase, "status": int(status), "detail": detail}


def problem_response(document: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Answer the current request with a problem, in the shape of the protocol that it speaks."""
    content, status, media_type = SHAPE.get()(document)
    # ASCII, because a column's name in a body may be half a surrogate pair, which UTF-8 cannot hold.
    return Response(json.dumps(content).encode("ascii"), status, headers, media_type=media_type)


def _problem_details(document: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    return document | {"request_id": REQUEST_ID.get()}, document["status"], "application/problem+json"


# Turns a problem into the body, status and media type that the caller's protocol has for it; set by app.front.
Shape = Callable[[dict[str, Any]], tuple[dict[str, Any], int, str]]
SHAPE: ContextVar[Shape] = ContextVar("shape", default=_problem_details)
