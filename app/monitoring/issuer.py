"""Metric of the issuer of access tokens."""

from prometheus_client import Gauge

AVAILABLE = Gauge(
    "model_issuer_available",
    "Whether the keys of the issuer of access tokens could be read the last time: 1 or 0.",
    ["model_name"],
)
