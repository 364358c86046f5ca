"""The endpoint POST /explain: the contribution of each column to each prediction, as XGBoost's SHAP values.

An explanation costs as much as 30 to 90 predictions, so explanations have their own thread, slot and queue. They use at
most one CPU, and predictions never wait for them.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import orjson

from app.accounts import Account
from app.endpoints import arrow
from app.endpoints.base import Endpoint, Work, fault, timed_out
from app.errors import CellError, NotExplainableError, TooLargeError
from app.http.body import Body, Media
from app.http.tracing import note
from app.limits import Limits
from app.loaded import Loaded
from app.model.booster import Matrix
from app.model.rows import Rows
from app.model.xgboost import BoosterModel
from app.monitoring.model_metrics import ModelMetrics
from app.service import Service

EXPLAIN = "/explain"
AT_ONCE = 1
CALL_ROWS = 8  # rows between two checks of the time limit, because a call cannot be interrupted
NICENESS = 10  # of the thread, so that predictions come first when CPU is scarce


class Explain(Endpoint):
    """The endpoint POST /explain."""

    media: ClassVar[Media] = arrow.MEDIA

    def __init__(self, service: Service) -> None:
        threads = ThreadPoolExecutor(AT_ONCE, "explain", _lower_priority)
        super().__init__(service, Limits(service.settings, AT_ONCE), threads)

    async def work(self, loaded: Loaded, received: Body, owner: Account) -> bytes | Work:
        """Return a callable that explains the rows in the thread."""
        explained = loaded.model
        if not isinstance(explained, BoosterModel):
            raise NotExplainableError(explained.flavor)
        deadline = time.monotonic() + self._settings.request_timeout_seconds

        def in_time() -> None:
            if time.monotonic() > deadline:
                raise timed_out(self._settings)

        return lambda: _content(loaded, explained, self._rows(loaded, received, owner), in_time)

    def _rows(self, loaded: Loaded, received: Body, owner: Account) -> Rows:
        rows = arrow.rows_of(loaded, received.content, received.kind, self._settings.max_rows)
        note("rows", rows.count)
        if rows.count > (most := self._settings.max_explain_rows):
            raise TooLargeError(f"The body has {rows.count} rows; the limit for explanations is {most}.")
        owner.rows(rows.count)
        return rows

    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record the wait on the span."""
        del metrics
        note("queue_seconds", time.perf_counter() - begin)

    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Count a failed request."""
        del cells
        loaded.metrics.explanation_errors[reason].inc()


def _content(loaded: Loaded, model: BoosterModel, rows: Rows, in_time: Callable[[], None]) -> bytes:
    """Validate and explain the rows, and return the response body."""
    matrix = rows.matrix()
    begin = time.perf_counter()
    explanations: list[bytes] = []
    for start in range(0, rows.count, CALL_ROWS):
        in_time()
        try:
            explanations.append(orjson.dumps(_explained(model, matrix[start : start + CALL_ROWS]))[1:-1])
        except Exception as error:
            raise fault(error, rows.count) from error
    note("explain_seconds", time.perf_counter() - begin)
    loaded.metrics.explanations.inc(rows.count)
    listed = orjson.Fragment(b"[" + b",".join(explanations) + b"]")
    return orjson.dumps({"model": loaded.model.provenance.identity, "explanations": listed})


def _explained(model: BoosterModel, rows: Matrix) -> list[Any]:
    """Return one JSON value per row.

    Raises:
        BoosterError: The booster failed.
        ValueError: A contribution is NaN or infinite.
    """
    predictions = model.predict(rows)
    margins, contributions = model.booster.margins(rows), model.booster.contributions(rows)
    if not (np.isfinite(margins).all() and np.isfinite(contributions).all()):
        raise ValueError("its contributions contain NaN or infinity, which JSON does not support")
    names, labels = model.signature.feature_names, model.output.margins(margins.shape[1])
    return [
        {
            "prediction": prediction,
            "outputs": [
                label | {"base_value": base, "margin": margin, "contributions": dict(zip(names, added, strict=True))}
                for label, margin, (*added, base) in zip(labels, row_margins, row, strict=True)
            ],
        }
        for prediction, row_margins, row in zip(predictions, margins.tolist(), contributions.tolist(), strict=True)
    ]


def _lower_priority() -> None:
    """Lower the priority of this thread below the event loop's; only Linux has priorities per thread."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
