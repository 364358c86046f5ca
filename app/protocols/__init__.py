"""Speak the protocols that callers already speak: each turns its requests into rows for the one way to a prediction.

A protocol owns how rows, answers and errors are written, and nothing else: limits, queue, metrics, traces and logs are
those of POST /predict.
"""

from collections.abc import Sequence

from app.loading import Service
from app.protocols import inference, mlflow
from app.protocols.spoken import Spoken


def spoken(service: Service) -> Sequence[Spoken]:
    """Return the protocols that are switched on."""
    settings = service.settings
    return [
        *([mlflow.spoken(service)] if settings.mlflow_protocol else []),
        *([inference.spoken(service)] if settings.open_inference_protocol else []),
    ]
