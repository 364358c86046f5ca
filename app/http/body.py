"""Request bodies: their media types, codings, size limit and time limit."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from starlette.types import Receive, Scope

from app.errors import ClientGoneError, SlowBodyError, TooLargeError, UnsupportedMediaError
from app.http import codings

# The event loop handles bodies up to this size itself, because a switch to a thread takes longer than it gains. A body
# of this size that needs a check of every cell takes about 10 ms.
INLINE_BYTES = 65_536

_READ = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"host", b"origin", b"accept", b"accept-encoding"}
)
_JSON = rb"application/(?:json|[-!#$&^_.+a-z0-9]+\+json)[ \t]*(?:;.*)?"


@dataclass(frozen=True)
class Media:
    """The media types that an endpoint accepts.

    Args:
        pattern: Pattern of accepted Content-Type headers.
        listed: Accepted types in the form of an Accept header.
        remedy: Error detail for all other types.
    """

    pattern: re.Pattern[bytes]
    listed: str
    remedy: str

    @classmethod
    def of(cls, name: str, listed: str, remedy: str, others: bytes = b"") -> "Media":
        """Return media types with JSON and the types that the pattern `others` matches."""
        either = _JSON + (b"|" + others if others else b"")
        return cls(re.compile(either, re.IGNORECASE), listed, f"The body must be {name}: send it with {remedy}.")


JSON = Media.of("JSON", "application/json", "Content-Type: application/json")


class Body(NamedTuple):
    """A complete body, and the headers that describe it and its response.

    Args:
        pieces: The body as it was received. A large one is joined where it is read, outside the event loop.
        size: Size of all pieces, in bytes.
        coding: Its coding, one of `codings.CODINGS`; "" if it has none.
        limit: Maximum size of the body without its coding, in bytes.
        kind: Content-Type; empty if there is none.
        accept: Accept, with the values of several lines in one list.
        accept_encoding: Accept-Encoding, likewise.
        headers: All headers of the request.
    """

    pieces: Sequence[bytes]
    size: int
    coding: str
    limit: int
    kind: bytes = b""
    accept: bytes = b""
    accept_encoding: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def small(self) -> bytes | None:
        """The body without its coding, or None if it is too large for the event loop.

        Raises:
            DamagedBodyError: The body is not what its coding says.
        """
        if self.size > INLINE_BYTES:
            return None
        received = b"".join(self.pieces)
        if not self.coding:
            return received
        try:
            return codings.decoded(received, self.coding, min(self.limit, INLINE_BYTES))
        except TooLargeError:
            return None

    @property
    def content(self) -> bytes:
        """The body without its coding.

        Raises:
            DamagedBodyError: The body is not what its coding says.
            TooLargeError: It exceeds the limit.
        """
        received = b"".join(self.pieces)
        return codings.decoded(received, self.coding, self.limit) if self.coding else received


async def read(scope: Scope, receive: Receive, limit: int, seconds: float, media: Media = JSON) -> Body:
    """Return the complete body, which may be compressed.

    Args:
        scope: ASGI scope of the request; its headers are checked before the body is read.
        receive: ASGI receive channel of the request.
        limit: Maximum size, in bytes.
        seconds: Time limit for the complete body.
        media: Accepted media types.

    Raises:
        UnsupportedMediaError: The Content-Type is not accepted, or missing in a request of another site's page.
        UnsupportedCodingError: The Content-Encoding is not supported.
        TooLargeError: The body exceeds the limit.
        SlowBodyError: The body did not arrive in time.
        ClientGoneError: The client closed the connection.
    """
    host = origin = kind = accept = accept_encoding = b""
    typed = False
    coded: list[bytes] = []
    headers = scope["headers"]
    for name, value in headers:  # once, for every request
        if name not in _READ:
            continue
        if name == b"content-type":
            typed = True
            kind = kind or value
            if value != b"application/json" and not media.pattern.fullmatch(value):
                raise UnsupportedMediaError(media.remedy, media.listed)
        elif name == b"content-length":
            if value.isdigit() and int(value[:20]) > limit:
                raise TooLargeError(f"The Content-Length is {int(value[:20])} bytes; the limit is {limit}.")
        elif name == b"content-encoding":
            coded.append(value)
        elif name == b"host":
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"accept":
            accept = accept + b"," + value if accept else value
        elif name == b"accept-encoding":
            accept_encoding = accept_encoding + b"," + value if accept_encoding else value
    # Browsers send such a request without asking first whether the service allows it (CORS).
    if origin and not typed and origin.partition(b"://")[2].lower() != host.lower():
        raise UnsupportedMediaError(f"A page of another site must send a Content-Type. {media.remedy}", media.listed)
    coding = codings.coding_of(coded) if coded else ""
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
                    raise TooLargeError(f"The body is larger than the limit of {limit} bytes.")
                if not message.get("more_body", False):
                    return Body(pieces, size, coding, limit, kind, accept, accept_encoding, headers)
    except TimeoutError:
        raise SlowBodyError(f"The body did not arrive within {seconds:g} s.") from None
