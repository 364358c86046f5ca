"""Exceptions of the service and the HTTP status of each.

ServiceError
├── LoadError             no HTTP status: the process exits if the model cannot be loaded
│   └── UnknownError      (app.registry.artifacts) the source does not have the model, version or alias
├── ClientGoneError       the client closed the connection; counted as 499, nothing is sent
├── InvalidTokenError     why an access token is not valid, for the log
├── UnknownKeyError       the keys of the issuer must be read again before a token can be verified
└── ProblemError          an error response in the form of RFC 9457
    ├── NotJsonError      400
    ├── NotArrowError     400
    ├── DamagedBodyError  400   not what its Content-Encoding says
    ├── UnauthorizedError 401   does not reveal what was wrong with the key
    ├── ForbiddenError    403   names the scopes that the token lacks
    ├── UnknownModelError 404   raised by app.endpoints.protocols
    ├── SlowBodyError     408   closes the connection
    ├── TooLargeError     413
    ├── UnsupportedMediaError 415   lists the accepted media types
    ├── UnsupportedCodingError 415  lists the accepted content codings
    ├── InvalidInputError 422   names rows and columns
    ├── QuotaExceededError 429  with Retry-After
    ├── ModelFaultError   500   reveals nothing about the payload or the code
    ├── NotExplainableError 501 the model does not support explanations
    ├── NotReadyError     503   with Retry-After
    ├── ModelUnavailableError 503 with Retry-After
    ├── IssuerAwayError   503   with Retry-After
    ├── OverloadedError   503   with Retry-After
    └── TimedOutError     504   with Retry-After
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar

from starlette.responses import Response

from app.context import REQUEST_ID

LISTED_ERRORS = 20  # enough, because a wrong column is usually wrong in every row
RETRY_AFTER_SECONDS = 5
CLIENT_CLOSED_REQUEST = 499  # nginx's status, which metrics count but the client never receives
OVERLOAD_RETRY_SECONDS = 1  # a queue drains faster than a model loads


class ServiceError(Exception):
    """Base class of all exceptions that the service raises on purpose. Messages are written for people."""


class LoadError(ServiceError):
    """A model that could not be loaded, with the cause and the remedy.

    Args:
        cause: What happened.
        remedy: What an operator can do, in the imperative.
        retryable: Whether a later attempt may succeed without a change to this pod.
    """

    def __init__(self, cause: str, remedy: str, *, retryable: bool = False) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.retryable = retryable


class InvalidTokenError(ServiceError):
    """An access token is not valid. The message is a reason for the log, without a word of the token."""


class UnknownKeyError(ServiceError):
    """An access token names a key that is not known. Reading the keys of its issuer again may find it."""


@dataclass(frozen=True)
class CellError:
    """One problem of the input. `row` counts from 0; None stands for all rows or columns."""

    row: int | None
    column: str | None
    problem: str


class ProblemError(ServiceError):
    """An error response; the message becomes its `detail`.

    Args:
        detail: One sentence for the client, without values from the payload.
        errors: The first problems of the input.
        total: Number of all problems.
    """

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    headers: Mapping[str, str] = MappingProxyType({})
    reason: ClassVar[str] = ""  # label of model_errors_total; empty: not counted there

    def __init__(self, detail: str, errors: list[CellError] | None = None, total: int = 0) -> None:
        super().__init__(detail)
        self.errors = errors or []
        self.total = total

    def document(self) -> dict[str, Any]:
        """Return the body: an RFC 9457 problem with the extensions `errors` and `error_count`."""
        document = problem_document(self.status, self.slug, str(self))
        if self.errors:
            document |= {"errors": [asdict(error) for error in self.errors], "error_count": self.total}
        return document


class NotJsonError(ProblemError):
    """The body is not valid JSON.

    Remedy: Send JSON. Use null for missing values, because JSON has neither NaN nor Infinity.
    """

    status = HTTPStatus.BAD_REQUEST
    slug = "not-json"
    reason = "invalid_input"


class NotArrowError(ProblemError):
    """The body is not an Arrow IPC stream.

    Remedy: Send the stream format of Arrow IPC (`pyarrow.ipc.new_stream`), not the file format.
    """

    status = HTTPStatus.BAD_REQUEST
    slug = "not-arrow"
    reason = "invalid_input"


class DamagedBodyError(ProblemError):
    """The body is not what its `Content-Encoding` says.

    Remedy: Compress the body again, or send it without `Content-Encoding`.
    """

    status = HTTPStatus.BAD_REQUEST
    slug = "damaged-body"
    reason = "invalid_input"


class UnauthorizedError(ProblemError):
    """The request has no valid API key and no valid access token.

    Args:
        wanted: What this service accepts.

    Remedy: Send one of the keys in the Secret, or a token of the issuer, as `Authorization: Bearer <key>`. The log of
    the pod has the reason why a token is refused.
    """

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

    def __init__(self, wanted: str = "API key") -> None:
        placeholder = "key" if wanted == "API key" else "token"
        super().__init__(f"A valid {wanted} is required; send it as Authorization: Bearer <{placeholder}>.")


class ForbiddenError(ProblemError):
    """The access token is valid, but lacks a scope.

    Args:
        missing: Required scopes that the token does not have.
        required: All required scopes.

    Remedy: Ask the issuer for a token with these scopes.
    """

    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"

    def __init__(self, missing: Sequence[str], required: Sequence[str]) -> None:
        super().__init__(f"The token lacks the scopes: {', '.join(missing)}.")
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(required)}"'}


class UnknownModelError(ProblemError):
    """The request names a model or version that is not served.

    Remedy: Use the name and version that `GET /model` shows.
    """

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-model"


class SlowBodyError(ProblemError):
    """The body did not arrive in time.

    Remedy: Send the body faster, or raise `api.bodyTimeoutSeconds`.
    """

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "slow-body"
    headers: Mapping[str, str] = {"Connection": "close"}  # the rest of the body is not read
    reason = "timeout"


class TooLargeError(ProblemError):
    """The body or its number of rows exceeds the limit.

    Remedy: Split the request, or raise `api.maxRows`, `api.maxExplainRows` or `api.maxBodyBytes`.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    reason = "too_large"


class UnsupportedMediaError(ProblemError):
    """The `Content-Type` is not supported.

    Args:
        detail: What to send instead.
        accepted: Accepted media types.

    Remedy: Send JSON, or one of the media types that the header `Accept` of the response lists.
    """

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media"
    reason = "invalid_input"

    def __init__(self, detail: str, accepted: str = "application/json") -> None:
        super().__init__(detail)
        # Without Accept-Encoding, which would blame the content coding (RFC 9110, 12.5.3).
        self.headers = {"Accept": accepted}


class UnsupportedCodingError(ProblemError):
    """The `Content-Encoding` is not supported.

    Args:
        detail: What to send instead.
        accepted: Accepted codings.

    Remedy: Send the body without compression, or with one that the header `Accept-Encoding` of the response lists.
    """

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-coding"
    reason = "invalid_input"

    def __init__(self, detail: str, accepted: Sequence[str]) -> None:
        super().__init__(detail)
        self.headers = {"Accept-Encoding": ", ".join(accepted)}


class InvalidInputError(ProblemError):
    """The rows do not fit the model's signature.

    Remedy: Correct the places that `errors` lists. `GET /model` and `/docs` show the signature and an example.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-input"
    reason = "invalid_input"


class QuotaExceededError(ProblemError):
    """The caller has used up its quota of requests or rows.

    Args:
        detail: The quota.
        seconds: Time until the quota allows the same request.

    Remedy: Retry after the seconds in `Retry-After`. To avoid refusals, read what is left from `RateLimit`.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "quota-exceeded"

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(seconds)}


class ModelFaultError(ProblemError):
    """The model failed on valid input.

    Remedy: Find the `request_id` in the log of the pods. If the input is valid, roll back to the previous version.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "model-fault"
    reason = "model_error"


class NotExplainableError(ProblemError):
    """This model does not support explanations.

    Remedy: Use `/predict`. Only XGBoost models are explained.
    """

    status = HTTPStatus.NOT_IMPLEMENTED
    slug = "not-explainable"

    def __init__(self, flavor: str) -> None:
        super().__init__(f"Models of the flavor {flavor} do not support explanations; only XGBoost models do.")


class NotReadyError(ProblemError):
    """No model is loaded yet.

    Remedy: Retry after the seconds in `Retry-After`. `GET /health` shows why the model is not loaded.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "not-ready"
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_SECONDS)}

    def __init__(self) -> None:
        super().__init__("No model is loaded yet; GET /health returns the reasons.")


class IssuerAwayError(ProblemError):
    """The keys of the issuer of access tokens could not be read since the start of the pod.

    Remedy: Retry after the seconds in `Retry-After`. The log of the pod names the cause. API keys work meanwhile.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "issuer-away"
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_SECONDS)}

    def __init__(self) -> None:
        super().__init__("The keys of the issuer of access tokens cannot be read.")


class ModelUnavailableError(ProblemError):
    """The process that runs the model ended or restarts.

    Remedy: Retry after the seconds in `Retry-After`. `GET /health` shows the reason.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "model-unavailable"
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    reason = "model_unavailable"

    def __init__(self, why: str) -> None:
        super().__init__(f"The model cannot predict now: {why}.")


class OverloadedError(ProblemError):
    """All slots are in use and the queue is full.

    Remedy: Retry after the seconds in `Retry-After`. If it persists, add pods.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "overloaded"
    headers: Mapping[str, str] = {"Retry-After": str(OVERLOAD_RETRY_SECONDS)}
    reason = "overloaded"


class TimedOutError(ProblemError):
    """The prediction exceeded the time limit of a request.

    Remedy: Send fewer rows per request, add pods or CPU, or raise `api.requestTimeoutSeconds`.
    """

    status = HTTPStatus.GATEWAY_TIMEOUT
    slug = "timeout"
    headers: Mapping[str, str] = {"Retry-After": str(OVERLOAD_RETRY_SECONDS)}
    reason = "timeout"


class ClientGoneError(ServiceError):
    """The client closed the connection."""


def problem_document(status: HTTPStatus, slug: str, detail: str) -> dict[str, Any]:
    """Return the members that every problem has; the type is a name, not the address of a page (RFC 9457, 3.1.1)."""
    kind = f"urn:model-service:{slug}" if slug else "about:blank"
    return {"type": kind, "title": status.phrase, "status": int(status), "detail": detail}


def problem_response(document: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return the error response to the current request, in the format of its protocol."""
    content, status, media_type = ERROR_FORMAT.get()(document)
    # ASCII, because a column name may contain half a surrogate pair, which UTF-8 cannot encode.
    return Response(json.dumps(content).encode("ascii"), status, headers, media_type=media_type)


def _problem_details(document: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    return document | {"request_id": REQUEST_ID.get()}, document["status"], "application/problem+json"


# Converts a problem into body, status and media type of the client's protocol; set by app.http.front.
ErrorFormat = Callable[[dict[str, Any]], tuple[dict[str, Any], int, str]]
ERROR_FORMAT: ContextVar[ErrorFormat] = ContextVar("error_format", default=_problem_details)
