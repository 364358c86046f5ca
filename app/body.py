"""Read the body of a prediction: JSON as it is, never more of it than the limit, nor for longer than allowed."""

import asyncio
import re

from starlette.types import Receive, Scope

from app.errors import ClientGoneError, SlowBodyError, TooLargeError, UnsupportedMediaError

_JSON = re.compile(rb"application/(?:json|[-!#$&^_.+a-z0-9]+\+json)[ \t]*(?:;.*)?", re.IGNORECASE)


async def read(scope: Scope, receive: Receive, limit: int, seconds: float) -> bytes:
    """Return the whole body.

    Args:
        scope: of the request; what its headers say is refused first.
        receive: of the request.
        limit: bytes.
        seconds: for all of it to arrive.

    Raises:
        UnsupportedMediaError: it is compressed, or announced as something else than JSON.
        TooLargeError: it is larger.
        SlowBodyError: it did not arrive in time.
        ClientGoneError: the caller left.
    """
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value != b"application/json" and not _JSON.fullmatch(value):
                raise UnsupportedMediaError("The body must be JSON: send it with Content-Type: application/json.")
        elif name == b"content-length":
            if value.isdigit() and int(value[:20]) > limit:
                raise TooLargeError(f"The body is announced as {int(value[:20])} bytes; at most {limit} are taken.")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaError("The body must not be compressed: send it without Content-Encoding.")
    pieces, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise TooLargeError(f"The body is larger than the {limit} bytes that are taken.")
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise SlowBodyError(f"The body did not arrive within {seconds:g} s.") from None
