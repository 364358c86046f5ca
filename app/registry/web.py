"""Models on a web server, which lists no files: each is asked for by its name. A pinned digest vouches for them."""

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request

from app.errors import LoadError
from app.registry.artifacts import UnknownError, bounded, seconds_left
from app.registry.client import CALL_SECONDS, opener_until
from app.uri import WebFolder

_PIECE = 1 << 20


class WebArtifacts:
    """The files of a model on a web server.

    Args:
        source: Address of the folder.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.
    """

    def __init__(self, source: WebFolder, deadline: float) -> None:
        self._url = source.url
        self._deadline = deadline
        self._opener = opener_until(deadline)

    def listing(self, folder: str) -> None:
        """Return None: web servers have no common form of a listing."""
        del folder

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        request = Request(f"{self._url}/{quote(path)}", headers={"User-Agent": "model-service"})  # noqa: S310 - https
        try:
            with self._opener.open(request, timeout=self._seconds()) as answer:
                announced = answer.headers.get("Content-Length", "")
                known = int(announced) if size is None and announced.isdecimal() else size
                if known is not None and known > most:
                    known = None  # bounded() then refuses it as too large, with the value to raise
                yield from bounded(self._pieces(answer), path, known, most)
        except HTTPError as error:
            with error:
                raise self._refusal(error.code, path) from None
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            raise LoadError(
                f"the web server does not answer ({cause})",
                "check the address, its certificate and that no network policy blocks the connection",
                retryable=True,
            ) from None

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        while piece := answer.read(_PIECE):
            self._seconds()
            yield piece

    def _seconds(self) -> float:
        return min(CALL_SECONDS, seconds_left(self._deadline))

    @staticmethod
    def _refusal(status: int, path: str) -> LoadError:
        if status in (404, 410):
            return UnknownError(
                f"the web server has no {path}", "upload the folder that MLflow wrote, or correct the URI"
            )
        if 300 <= status < 400:
            return LoadError(f"the web server redirects elsewhere ({status})", "set model.uri to the final address")
        return LoadError(
            f"the web server returns status {status}",
            "check that the files can be read without credentials, or use object storage",
            retryable=status >= 500 or status == 429,
        )
