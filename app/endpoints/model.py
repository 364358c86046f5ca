"""The endpoint GET /model: name, version and origin of the served model."""

from typing import Any

import numpy
from fastapi import APIRouter, Request

from app import __version__
from app.endpoints.openapi import problem
from app.errors import NotReadyError
from app.model import booster
from app.service import Service

router = APIRouter(tags=["Model"])


@router.get("/model", summary="Describe the model", responses={503: problem("No model is loaded yet.")})
async def describe_model(request: Request) -> dict[str, Any]:
    """Return the name, version and origin of the served model, with an input example for /predict."""
    service: Service = request.app.state.service
    if service.loaded is None:
        raise NotReadyError
    settings = service.settings
    process = {
        "version": __version__,
        "git_commit": settings.git_commit,
        "image": settings.image,
        "packages": {"numpy": numpy.__version__, "xgboost": booster.version()},
    }
    obtained = service.loaded.obtained
    origin = {"origin": obtained.origin, "confirmed": obtained.confirmed}
    following = {"following": service.follower.document()} if service.follower else {}
    challenger = {"challenger": service.challenger.document()} if service.challenger else {}
    return obtained.model.document() | origin | following | challenger | {"service": process}
