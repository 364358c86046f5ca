"""Client of MLflow's REST API.

It uses urllib, because importing MLflow alone takes longer than the 0.4 s of a whole download. Failed calls become
errors with a cause and a remedy; app.registry.resolve and app.registry.sources decide which calls to make.
"""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from app.errors import LoadError
from app.registry.artifacts import UnknownError, bounded, seconds_left
from app.registry.timed import limited
from app.settings import Settings

API = "/api/2.0"
CALL_SECONDS = 10.0  # time without data after which a call fails; a download that makes progress may take longer
MAX_JSON_BYTES = 16 * 1024 * 1024  # a run with ten thousand parameters has 2 MiB


class NoRouteError(LoadError):
    """The server does not have the requested path, or is not MLflow."""


class _NoRedirects(HTTPRedirectHandler):
    """A handler that turns redirects into errors, because urllib would send the credentials to the new address."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, so that no redirect is followed."""


class _Http(HTTPHandler):
    """A handler whose connections end at the deadline."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        """Send the request, as urllib defines it."""

        def connection(host: str, **others: Any) -> http.client.HTTPConnection:
            return limited(http.client.HTTPConnection(host, **others), self._deadline)

        return self.do_open(connection, req)


class _Https(HTTPSHandler):
    """The same over TLS."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        """Send the request, as urllib defines it."""

        def connection(host: str, **others: Any) -> http.client.HTTPConnection:
            return limited(http.client.HTTPSConnection(host, **others), self._deadline)

        return self.do_open(connection, req)


def opener_until(deadline: float) -> OpenerDirector:
    """Return an opener of URLs that follows no redirects and reads no longer than until the deadline."""
    return build_opener(_NoRedirects, _Http(deadline), _Https(deadline))


class RegistryClient:
    """Client of one MLflow server.

    Args:
        settings: Address and credentials.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self.address = settings.tracking_address
        self._deadline = deadline
        self._headers = {"User-Agent": "model-service"} | _authorization(settings)
        self._opener = opener_until(deadline)

    def get(self, path: str, /, **query: str) -> dict[str, Any]:
        """Return the JSON object at `path` below the root of the API.

        Raises:
            UnknownError: MLflow answers that it does not exist.
            LoadError: The call failed, or the response is not a JSON object.
        """
        with self._open(f"{API}/{path}?{urlencode(query)}") as response:
            text = response.read(MAX_JSON_BYTES + 1)
        try:
            answer = json.loads(text) if len(text) <= MAX_JSON_BYTES else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._not_mlflow("returns a response that is not a JSON object")
        return answer

    def proxied(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield the content of an artifact that MLflow proxies; see `file`."""
        return self.file(f"{API}/mlflow-artifacts/artifacts/{quote(path)}", path, size, most)

    def file(self, target: str, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield a file in pieces.

        Args:
            target: Path and query of the request.
            path: Path of the file, for messages.
            size: Size in bytes, or None if it is not known.
            most: Maximum size in bytes.

        Raises:
            UnknownError: The file does not exist.
            LoadError: Its size differs from `size` or exceeds `most`, or the connection broke.
        """
        with self._open(target) as response:
            yield from bounded(self._pieces(response), path, size, most)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        while piece := response.read(1 << 20):
            self._remaining()
            yield piece

    @contextmanager
    def _open(self, target: str) -> Iterator[http.client.HTTPResponse]:
        request = Request(self.address + target, headers=self._headers)  # noqa: S310 - Settings allow http(s) only
        try:
            with self._opener.open(request, timeout=self._remaining()) as response:
                yield response
        except HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            self._remaining()  # raises the error for the deadline if that is the cause
            raise self._silence(error) from None

    def _remaining(self) -> float:
        return min(CALL_SECONDS, seconds_left(self._deadline))

    def _refusal(self, error: HTTPError) -> LoadError:
        """Return the error for a response whose status is not 200."""
        try:
            body = error.read(4096).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            body = ""
        code, message = _mlflow_error(body)
        # An unknown alias is 400 INVALID_PARAMETER_VALUE in MLflow 3, an unknown model 404.
        if code == "RESOURCE_DOES_NOT_EXIST" or (code and "not found" in message.lower()):
            return UnknownError(f"MLflow answers: {message.rstrip('.')}", "register it first, or correct the URI")
        if error.code == 403 and "Invalid Host header" in body:
            return LoadError(
                "MLflow rejects the host name of this address (403)",
                "add it to the --allowed-hosts of the MLflow server",
                retryable=True,
            )
        if error.code in (401, 403):
            return LoadError(
                f"MLflow rejected the credentials ({error.code})",
                "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if 300 <= error.code < 400:
            return self._not_mlflow(f"redirects elsewhere ({error.code})")
        if code:
            return LoadError(f"MLflow returned {error.code} {code}: {message}", "check its log", retryable=True)
        return self._not_mlflow(f"returns status {error.code}", NoRouteError if error.code == 404 else LoadError)

    def _not_mlflow(self, what: str, kind: type[LoadError] = LoadError) -> LoadError:
        return kind(
            f"the server {what}",
            "check that MODEL_SERVICE_MLFLOW_TRACKING_URI is the final address of a healthy MLflow server",
            retryable=True,
        )

    def _silence(self, error: OSError | http.client.HTTPException) -> LoadError:
        """Return the error for a call without a complete response."""
        cause = error.reason if isinstance(error, URLError) else error
        setting = "MODEL_SERVICE_MLFLOW_TRACKING_URI (mlflow.trackingUri in the chart)"
        address = f"check that {setting} is correct and that MLflow is running"
        if isinstance(cause, socket.gaierror):
            return LoadError("the host name does not resolve (DNS)", address, retryable=True)
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = "set SSL_CERT_FILE to the file of its certificate authority"
            return LoadError(f"its certificate is not trusted ({cause.verify_message})", remedy, retryable=True)
        if isinstance(cause, TimeoutError):
            remedy = "check that MLflow is healthy and that no network policy blocks the connection"
            return LoadError("it did not respond in time", remedy, retryable=True)
        if isinstance(cause, ConnectionRefusedError):
            return LoadError("the connection was refused", address, retryable=True)
        if isinstance(cause, http.client.HTTPException | ConnectionError):
            return LoadError(f"the connection broke ({type(cause).__name__})", address, retryable=True)
        return LoadError(f"it cannot be reached ({cause})", address, retryable=True)


def _mlflow_error(body: str) -> tuple[str, str]:
    """Return MLflow's error code and message, or two empty strings when the body is not MLflow's."""
    try:
        answer = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(answer, dict) or not isinstance(answer.get("error_code"), str):
        return "", ""
    return answer["error_code"], " ".join(str(answer.get("message", "")).split())[:300]


def _authorization(settings: Settings) -> dict[str, str]:
    """Return the header that MLflow's own client sends: Basic if there is a user, otherwise the token."""
    user, password = settings.tracking_user
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = settings.tracking_token.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}
