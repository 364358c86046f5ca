"""Health endpoints for Kubernetes probes and load balancers."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from app.service import Service

router = APIRouter(tags=["Health"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="Liveness")
async def live(request: Request) -> Response:
    """Return 200 while the event loop of the API runs. A restart would not fix any other failure."""
    service: Service = request.app.state.service
    # This event loop may be a different one, that of the monitoring port.
    return _json({"status": "stuck"}, status=503) if service.stuck else _json({"status": "alive"})


@router.head("/health", include_in_schema=False)
@router.head("/health/ready", include_in_schema=False)
@router.get("/health", operation_id="health", summary="Readiness", responses={503: {"description": "Not ready."}})
@router.get("/health/ready", operation_id="ready", summary="Readiness", responses={503: {"description": "Not ready."}})
async def ready(request: Request) -> Response:
    """Return 200 when the pod accepts requests, otherwise 503 with the reasons. Calls no other service."""
    service: Service = request.app.state.service
    if reasons := service.reasons:
        return _json({"status": "not ready", "reasons": reasons}, status=503)
    return _json({"status": "ready", "reasons": []})


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content).encode(), status_code=status, media_type="application/json")
