"""Content codings: compressed request and response bodies (RFC 9110, 8.4.1 and 12.5.3)."""

import re
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from app.errors import DamagedBodyError, TooLargeError, UnsupportedCodingError

# In the order of preference. Triton's clients also know deflate, which is zlib's format.
CODINGS = ("zstd", "gzip", "deflate")
TAKEN = "It may be compressed, with the Content-Encoding zstd, gzip or deflate."  # for descriptions of bodies
LEAST_BYTES = 1024  # a smaller response fits in one packet with or without compression
MOST_MEMBERS = 1000  # gzip members or zstd frames of a body, because an empty one costs time but few bytes

_WEIGHT = re.compile(rb"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110, 12.4.2
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110, 8.4.1.3
_WINDOW_BITS = {"gzip": 31, "deflate": 15}  # of zlib, which chooses the format by them
_ZSTD_WINDOW_BITS = 23  # 8 MB, the limit of RFC 9659, which bounds the memory of decompression
# Fast levels: higher ones save a tenth of the bytes for several times the CPU.
_ZLIB_LEVEL, _ZSTD_LEVEL = 1, 1
_HINTS = {
    "deflate": " It must be in zlib's format (RFC 1950).",
    "zstd": f" Its window must not exceed {2**_ZSTD_WINDOW_BITS} bytes (RFC 9659).",
}
_LONGEST_ACCEPTED = 256  # bytes of Accept-Encoding; a longer value is ignored, because the cache keeps some of them
_SLICE_BYTES = 16_384  # a decompressor copies what follows the end of a member, up to this size


def coding_of(values: Iterable[bytes]) -> str:
    """Return the coding of a request body; "" if it has none.

    Args:
        values: Values of the Content-Encoding headers.

    Raises:
        UnsupportedCodingError: The coding is unknown, or there are several.
    """
    names = [name for value in values for each in value.split(b",") if (name := _name(each)) not in ("", "identity")]
    if not names:
        return ""
    if len(names) > 1:
        raise UnsupportedCodingError("The body has several codings; apply only one.", CODINGS)
    if names[0] not in CODINGS:
        listed = ", ".join(CODINGS)
        raise UnsupportedCodingError(f"The Content-Encoding is unknown; use one of {listed}, or none.", CODINGS)
    return names[0]


def chosen(accepted: bytes, codings: tuple[str, ...] = CODINGS) -> tuple[str, int]:
    """Return the coding of the response, "" for none, and the size from which it applies, in bytes.

    Args:
        accepted: Accept-Encoding of the request; empty if it has none.
        codings: Available codings in the order of preference.
    """
    return _negotiated(accepted, codings) if 0 < len(accepted) <= _LONGEST_ACCEPTED else ("", 0)


def decoded(content: bytes, coding: str, limit: int) -> bytes:
    """Return a body without its coding, of which it never decompresses more than the limit.

    Args:
        content: Compressed body.
        coding: One of `CODINGS`.
        limit: Maximum size of the result, in bytes.

    Raises:
        TooLargeError: The result exceeds the limit.
        DamagedBodyError: The content is not what the coding says.
    """
    new, failure = _decompressor(coding)
    pieces, size, members = [], 0, 0
    rest, decompressor = memoryview(content), new()
    try:
        while rest:
            part = rest[:_SLICE_BYTES]
            pieces.append(decompressor.decompress(part, limit - size + 1))
            size += len(pieces[-1])
            if size > limit:
                raise TooLargeError(f"The decompressed body is larger than the limit of {limit} bytes.")
            rest = rest[len(part) - len(decompressor.unused_data) :]
            if decompressor.eof and rest:
                if (members := members + 1) > MOST_MEMBERS or coding == "deflate":
                    raise DamagedBodyError(f"The body has more than one {coding} stream; send one.")
                decompressor = new()
    except failure:
        raise DamagedBodyError(f"The body is not valid {coding}.{_HINTS.get(coding, '')}") from None
    if not decompressor.eof:
        raise DamagedBodyError(f"The body ends within its {coding} data.")
    return b"".join(pieces)


def encoded(content: bytes, coding: str) -> bytes:
    """Return a compressed body.

    Args:
        content: Body.
        coding: One of `CODINGS`.
    """
    if coding == "zstd":
        return bytes(_zstd().compress(content, _ZSTD_LEVEL))
    return zlib.compress(content, _ZLIB_LEVEL, _WINDOW_BITS[coding])


@lru_cache(maxsize=64)  # clients send few different values
def _negotiated(accepted: bytes, codings: tuple[str, ...]) -> tuple[str, int]:
    """Return the coding with the highest weight, "" if the client prefers none, and the size from which it applies."""
    known = weights(accepted)
    others = known.get("*", 0.0)
    coding = max(codings, key=lambda each: known.get(each, others))
    weight = known.get(coding, others)
    if not weight or known.get("identity", 0.0) > weight:
        return "", 0
    refuses_identity = not known.get("identity", known.get("*", 1.0))
    return coding, 0 if refuses_identity else LEAST_BYTES


def weights(accepted: bytes) -> dict[str, float]:
    """Return the items of an Accept or Accept-Encoding header with their weights; 0 refuses an item."""
    return dict(map(_weighted, accepted.split(b",")))


def _weighted(item: bytes) -> tuple[str, float]:
    """Return an item and its weight; a malformed weight refuses it."""
    name, *parameters = item.split(b";")
    weight = next((each.strip()[2:] for each in parameters if each.strip()[:2].lower() == b"q="), b"1")
    return _name(name), float(weight) if _WEIGHT.fullmatch(weight) else 0.0


def _name(item: bytes) -> str:
    name = item.strip().lower().decode("latin-1")
    return _ALIASES.get(name, name)


def _decompressor(coding: str) -> tuple[Callable[[], Any], type[Exception]]:
    """Return what makes a decompressor, and the exception that it raises for damaged data."""
    if coding != "zstd":
        return partial(zlib.decompressobj, _WINDOW_BITS[coding]), zlib.error
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_BITS}
    return partial(zstd.ZstdDecompressor, options=options), zstd.ZstdError


def _zstd() -> Any:
    from backports import zstd

    return zstd
