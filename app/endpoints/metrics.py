"""The endpoint GET /metrics for Prometheus."""

import gzip

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

METRICS = "/metrics"


async def metrics(request: Request) -> Response:
    """Return all metrics in the format that the scraper accepts.

    The endpoint is async because sync endpoints wait for a thread: metrics would be missing during an overload.
    """
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    content = encode(REGISTRY)
    headers = {"Vary": "Accept, Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=content_type)
