"""Speak MLflow's REST API with urllib: 0.4 s for a model, where importing MLflow alone takes longer.

Owns HTTP and what its failures mean to a person; which calls make up a model is app.registry's.
"""

import base64
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from app.errors import LoadError
from app.settings import Settings

API = "/api/2.0"
CALL_SECONDS = 10.0  # silence after which a call is given up; a download may take longer, but not fall silent
MAX_JSON_BYTES = 16 * 1024 * 1024  # a run with ten thousand parameters has 2 MiB


class UnknownError(LoadError):
    """MLflow has no such thing. Retryable: a training run may be about to register it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy, retryable=True)


class _NoRedirects(HTTPRedirectHandler):
    """Turn redirects into errors: urllib would send the credentials to wherever one points."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class Tracking:
    """One MLflow server, until a deadline.

    Args:
        settings: address and credentials.
        deadline: on the clock of time.monotonic, seconds; no call outlasts it.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self.address = settings.tracking_address
        self._deadline = deadline
        self._headers = {"User-Agent": "model-service"} | _authorization(settings)
        self._opener: OpenerDirector = build_opener(_NoRedirects)

    def get(self, path: str, /, **query: str) -> dict[str, Any]:
        """Return the JSON object at `path` below the API's root.

        Raises:
            UnknownError: MLflow says that it does not exist.
            LoadError: anything else that is not an object.
        """
        with self._open(f"{API}/{path}?{urlencode(query)}") as response:
            text = response.read(MAX_JSON_BYTES + 1)
        try:
            answer = json.loads(text) if len(text) <= MAX_JSON_BYTES else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._not_mlflow("answers with something that is no JSON object")
        return answer

    def download(self, path: str, size: int) -> Iterator[bytes]:
        """Yield the content of an artifact in pieces, `size` bytes in all.

        Raises:
            UnknownError: there is no such artifact.
            LoadError: it has another size, or the connection broke.
        """
        received = 0
        with self._open(f"{API}/mlflow-artifacts/artifacts/{quote(path)}") as response:
            while piece := response.read(min(1 << 20, size + 1 - received)):
                received += len(piece)
                if received > size:
                    break
                self._remaining()
                yield piece
        if received != size:
            found = "more" if received > size else f"only {received}"
            raise LoadError(
                f"the download of {path} gave {found} instead of the {size} bytes that MLflow lists",
                "if this stays, upload the model again: its file was cut or changed",
                retryable=True,
            )

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
            raise self._silence(error) from None

    def _remaining(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise LoadError("the time to load ran out", "raise MODEL_SERVICE_LOAD_TIMEOUT_SECONDS", retryable=True)
        return min(CALL_SECONDS, seconds)

    def _refusal(self, error: HTTPError) -> LoadError:
        """Say what an answer other than 200 means."""
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
                "MLflow refuses the host name of this address (403)",
                "add it to the --allowed-hosts of the MLflow server",
                retryable=True,
            )
        if error.code in (401, 403):
            return LoadError(
                f"MLflow refused the credentials ({error.code})",
                "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if 300 <= error.code < 400:
            return self._not_mlflow(f"redirects elsewhere ({error.code})")
        if code:
            return LoadError(f"MLflow refused ({error.code} {code}: {message})", "check its log", retryable=True)
        return self._not_mlflow(f"answers {error.code}")

    def _not_mlflow(self, what: str) -> LoadError:
        return LoadError(
            f"the server {what}",
            "check that MODEL_SERVICE_MLFLOW_TRACKING_URI is the final address of a healthy MLflow server",
            retryable=True,
        )

    def _silence(self, error: OSError | http.client.HTTPException) -> LoadError:
        """Say what it means when no whole answer came."""
        cause = error.reason if isinstance(error, URLError) else error
        setting = "MODEL_SERVICE_MLFLOW_TRACKING_URI (mlflow.trackingUri in the chart)"
        address = f"check that {setting} is right and that MLflow runs"
        if isinstance(cause, socket.gaierror):
            return LoadError("the host name does not resolve (DNS)", address, retryable=True)
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = "name the file of its certificate authority in SSL_CERT_FILE"
            return LoadError(f"its certificate is not trusted ({cause.verify_message})", remedy, retryable=True)
        if isinstance(cause, TimeoutError):
            remedy = "check that MLflow is healthy and that no network policy is in between"
            return LoadError("it did not answer in time", remedy, retryable=True)
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
    """Build the header as MLflow's own client does: basic when there is a user, else the token."""
    user, password = settings.tracking_user
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = settings.tracking_token.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}
