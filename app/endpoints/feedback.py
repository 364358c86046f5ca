"""The endpoint POST /feedback: accepts labels that arrive after their predictions."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from pydantic_core import from_json

from app.accounts import Account
from app.endpoints.base import Endpoint, Work
from app.errors import LISTED_ERRORS, CellError, InvalidInputError, NotJsonError, TooLargeError
from app.http.body import Body
from app.http.tracing import note
from app.limits import Limits
from app.loaded import Loaded
from app.monitoring.feedback import Feedback
from app.monitoring.model_metrics import ModelMetrics
from app.service import Service

FEEDBACK = "/feedback"
AT_ONCE = 1

_FORM = 'Send {"labels": [{"token": "...", "label": ...}]}, with the tokens that came with predictions.'


class FeedbackEndpoint(Endpoint):
    """The endpoint POST /feedback. One thread scores all labels, so that each label counts once."""

    def __init__(self, service: Service) -> None:
        threads = ThreadPoolExecutor(AT_ONCE, "feedback")
        super().__init__(service, Limits(service.settings, AT_ONCE), threads)

    async def work(self, loaded: Loaded, received: Body, owner: Account) -> bytes | Work:
        """Return a callable that scores the labels in the thread."""
        del owner
        feedback = loaded.feedback
        assert feedback is not None  # noqa: S101 - the endpoint exists only if feedback is on
        return lambda: self._scored(feedback, received.content)

    def waited(self, metrics: ModelMetrics, begin: float) -> None:
        """Record the wait on the span."""
        del metrics
        note("queue_seconds", time.perf_counter() - begin)

    def failed(self, loaded: Loaded, reason: str, cells: Sequence[CellError] = ()) -> None:
        """Do nothing: rejected labels are counted one by one, and failed requests by the HTTP metrics."""

    def _scored(self, feedback: Feedback, content: bytes) -> bytes:
        """Score the labels of a body and return the response, which lists the rejected ones.

        Raises:
            ProblemError: The body is invalid, or none of its labels could be scored.
        """
        entries = self._entries(content)
        rejected = feedback.score(entries)
        if len(rejected) == len(entries):
            raise InvalidInputError("None of the labels could be scored.", rejected[:LISTED_ERRORS], len(rejected))
        return orjson.dumps({"accepted": len(entries) - len(rejected), "rejected": rejected})

    def _entries(self, content: bytes) -> list[Any]:
        try:
            payload = from_json(content, allow_inf_nan=False)
        except ValueError:
            raise NotJsonError("The body is not valid JSON.") from None
        entries = payload.get("labels") if isinstance(payload, dict) and len(payload) == 1 else None
        if not isinstance(entries, list) or not entries:
            raise InvalidInputError(_FORM)
        if len(entries) > (most := self._settings.max_rows):
            raise TooLargeError(f"The body has {len(entries)} labels; the limit is {most}.")
        return entries
