"""The routes for people and Kubernetes: which model this is, and whether it answers.

Predictions have their own endpoint in app.predict, metrics in app.metrics.
"""

import json
from typing import Any

import numpy
from fastapi import APIRouter, Request, Response

from app import __version__, booster
from app.errors import NotReadyError
from app.loading import Service
from app.openapi import problem

router = APIRouter()


@router.get("/model", responses={503: problem("No model is loaded yet.")})
async def describe_model(request: Request) -> dict[str, Any]:
    """Say which model answers and where it comes from, with an input example to send to /predict."""
    service = _service(request)
    if service.loaded is None:
        raise NotReadyError
    settings = service.settings
    process = {
        "version": __version__,
        "git_commit": settings.git_commit,
        "image": settings.image,
        "packages": {"numpy": numpy.__version__, "xgboost": booster.version()},
    }
    return service.loaded.model.document() | {"service": process}


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the event loop turns: a restart would help against nothing else."""
    return {"status": "alive"}


@router.get("/health", operation_id="health", responses={503: {"description": "Not ready."}})
@router.get("/health/ready", operation_id="ready", responses={503: {"description": "Not ready."}})
async def ready(request: Request) -> Response:
    """Answer 200 when requests are welcome, else 503 with the reasons. Asks nobody else."""
    service = _service(request)
    if reasons := service.reasons:
        return _json({"status": "not ready", "reasons": reasons}, status=503)
    return _json({"status": "ready", "reasons": []})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content).encode(), status_code=status, media_type="application/json")
