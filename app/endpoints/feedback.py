"""The endpoint POST /feedback: accepts labels that arrive after their predictions."""

from collections.abc import Callable
from typing import Any

import orjson
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import (
    CLIENT_CLOSED_REQUEST,
    LISTED_ERRORS,
    ClientGoneError,
    InvalidInputError,
    NotJsonError,
    NotReadyError,
    TooLargeError,
)
from app.http import body
from app.monitoring.feedback import Feedback
from app.settings import Settings

FEEDBACK = "/feedback"

_FORM = 'Send {"labels": [{"token": "...", "label": ...}]}, with the tokens that came with predictions.'


class FeedbackEndpoint:
    """The endpoint POST /feedback.

    Args:
        current: Returns the scorer of the served model, or None before a model is loaded.
        settings: Limits on the number of labels, the size of the body and the time to receive it.
    """

    def __init__(self, current: Callable[[], Feedback | None], settings: Settings) -> None:
        self._current = current
        self._most, self._most_bytes = settings.max_rows, settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Problems are raised for the application to answer."""
        feedback = self._current()
        if feedback is None:
            raise NotReadyError
        try:
            content = await body.read(scope, receive, self._most_bytes, self._seconds)
            answer = Response(self._scored(feedback, content), media_type="application/json")
        except ClientGoneError:
            answer = Response(status_code=CLIENT_CLOSED_REQUEST)
        await answer(scope, receive, send)

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
        if len(entries) > self._most:
            raise TooLargeError(f"The body has {len(entries)} labels; the limit is {self._most}.")
        return entries
