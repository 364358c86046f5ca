"""Cross-origin resource sharing (CORS): pages of other sites that may call the API from a browser."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

# Headers that clients of the API set, and headers of responses that scripts may read.
_ALLOWED = ("Authorization", "Content-Encoding", "Content-Type", "X-Request-ID", "traceparent", "tracestate")
_EXPOSED = ("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID")
_PREFLIGHT_SECONDS = 600  # browsers do not repeat the preflight request for this time


def allowing(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return the application with CORS headers for these origins. It answers preflight requests, which have no key.

    Args:
        app: Application behind it.
        origins: Origins such as https://shop.example.com, or "*" for all.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_ALLOWED,
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )
