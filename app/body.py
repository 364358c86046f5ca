"""Read the body of a prediction: JSON as it is, never more of it than the limit, nor for longer than allowed."""

import asyncio
import re
from dataclasses import dataclass

from starlette.types import Receive, Scope

from app.errors import ClientGoneError, SlowBodyError, TooLargeError, UnsupportedMediaError

_JSON = rb"application/(?:json|[-!#$&^_.+a-z0-9]+\+json)[ \t]*(?:;.*)?"


@dataclass(frozen=True)
class Media:
    """What a body may be.

    Args:
        pattern: of its Content-Type.
        listed: the types, as an Accept header names them.
        remedy: says how to send it.
    """

    pattern: re.Pattern[bytes]
    listed: str
    remedy: str

    @classmethod
    def of(cls, name: str, listed: str, remedy: str, others: bytes = b"") -> "Media":
        """Return JSON, and what else the pattern `others` takes."""
        either = _JSON + (b"|" + others if others else b"")
        return cls(re.compile(either, re.IGNORECASE), listed, f"The body must be {name}: send it with {remedy}.")


JSON = Media.of("JSON", "application/json", "Content-Type: application/json")


async def read(scope: Scope, receive: Receive, limit: int, seconds: float, media: Media = JSON) -> bytes:
    """Return the whole body.

    Args:
        scope: of the request; what its headers say is refused first.
        receive: of the request.
        limit: bytes.
        seconds: for all of it to arrive.
        media: what it may be announced as.

    Raises:
        UnsupportedMediaError: it is compressed, or announced as something else.
        TooLargeError: it is larger.
        SlowBodyError: it did not arrive in time.
        ClientGoneError: the caller left.
    """
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value != b"application/json" and not media.pattern.fullmatch(value):
                raise UnsupportedMediaError(media.remedy, media.listed)
        elif name == b"content-length":
            if value.isdigit() and int(value[:20]) > limit:
                raise TooLargeError(f"The body is announced as {int(value[:20])} bytes; at most {limit} are taken.")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaError(
                "The body must not be compressed: send it without Content-Encoding.", media.listed
            )
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
