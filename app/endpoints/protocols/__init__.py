"""Inference protocols of other servers, for existing clients.

A protocol defines only the formats of requests, responses and errors. Limits, queue, metrics, traces and logs are those
of POST /predict.
"""

from collections.abc import Sequence

from app.endpoints.protocols.base import Protocol
from app.endpoints.protocols.mlflow import endpoints as mlflow
from app.endpoints.protocols.open_inference import endpoints as inference
from app.service import Service


def enabled_protocols(service: Service) -> Sequence[Protocol]:
    """Return the enabled protocols."""
    settings = service.settings
    return [
        *([mlflow.protocol(service)] if settings.mlflow_protocol else []),
        *([inference.protocol(service)] if settings.open_inference_protocol else []),
    ]
