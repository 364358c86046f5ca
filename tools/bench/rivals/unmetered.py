"""The service with its metrics off, to know what they cost: what counts and observes does nothing."""

import runpy
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from app.http.front import DirectSeries
from app.monitoring.drift import Drift
from app.monitoring.observations import Observations, Tally


def nothing(*_arguments: Any) -> None:
    """Count nothing."""


for kind, methods in (
    (Counter, ("inc",)),
    (Gauge, ("inc", "dec", "set")),
    (Histogram, ("observe",)),
    (Observations, ("observe",)),
    (Tally, ("add",)),
    (Drift, ("count",)),
    (DirectSeries, ("record",)),
):
    for method in methods:
        setattr(kind, method, nothing)

runpy.run_module("app", run_name="__main__")
