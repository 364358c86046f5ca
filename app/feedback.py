"""Answer POST /feedback: score labels that come later, into counters of which PromQL makes AUC, calibration and errors.

Nothing is kept but a bounded memory of the tokens that this pod has scored: a label sent twice to one pod counts once.
"""

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import Counter, Histogram
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import body, keys
from app.contract import SCORE_BINS
from app.errors import (
    CLIENT_CLOSED_REQUEST,
    LISTED_ERRORS,
    CellError,
    ClientGoneError,
    InvalidInputError,
    LoadError,
    NotJsonError,
    NotReadyError,
    TooLargeError,
)
from app.model import Model
from app.settings import Settings
from app.tokens import Signer, Token, TokenError

FEEDBACK = "/feedback"
REMEMBERED_TOKENS = 200_000  # about 20 MB
REASONS = ("bad_token", "expired", "duplicate", "bad_label")
DELAY_BUCKETS_SECONDS = (60, 600, 3600, 21_600, 86_400, 259_200, 604_800, 1_209_600, 2_592_000)

_MODEL = ("model_name", "model_version")
_FORM = 'Send {"labels": [{"token": "...", "label": ...}]}, with the tokens that came with predictions.'

LABELS = Counter("model_feedback_labels_total", "Labels scored.", _MODEL)
SCORES = Counter("model_feedback_scores_total", "Labels by the bin of their score.", [*_MODEL, "outcome", "bin"])
CUMULATIVE = Counter(
    "model_feedback_scores_cumulative_total",
    "Labels by the bin of their score and all above: with them, AUC is a plain sum.",
    [*_MODEL, "outcome", "bin"],
)
SCORE_SUM = Counter("model_feedback_score_sum_total", "Sum of the scores with a label.", [*_MODEL, "bin"])
SQUARED_ERROR = Counter("model_feedback_squared_error_total", "Sum of squared differences to the label.", _MODEL)
ABSOLUTE_ERROR = Counter(
    "model_feedback_absolute_error_total",
    "Sum of differences to the label; sign: of prediction minus label. Two, because a counter must not fall.",
    [*_MODEL, "sign"],
)
CORRECT = Counter("model_feedback_correct_total", "Labels that were the likeliest class.", _MODEL)
CONFUSION = Counter("model_feedback_confusion_total", "Labels by predicted class.", [*_MODEL, "predicted", "actual"])
DELAY = Histogram(
    "model_feedback_delay_seconds", "From a prediction to its label, in seconds.", _MODEL, buckets=DELAY_BUCKETS_SECONDS
)
REJECTED = Counter("model_feedback_rejected_total", "Labels that were not scored.", ["model_name", "reason"])


class RejectedError(Exception):
    """A label that is not scored, for one of the reasons; its text tells the caller what is wrong."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class Feedback:
    """Issues the tokens of one model's predictions, and scores the labels that come with them.

    Args:
        model: that is served. Tokens of its other versions are scored too, by the classes of this one.
        settings: where the keys are, how many labels at once, and how old a token may be.

    Raises:
        LoadError: one label says nothing about its predictions.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self._output = model.output
        if not self._output.comparable:
            raise LoadError(
                "its predictions are not one number or a named class, which one label does not fit",
                "switch feedback off",
            )
        self._name, self._version = model.provenance.name, model.provenance.version
        self._signer = Signer(_keys(settings.feedback_keys_dir), self._name)
        self._most, self._most_bytes = settings.max_rows, settings.max_body_bytes
        self._seconds, self._max_age = settings.body_timeout_seconds, settings.feedback_max_age_seconds
        self._edges = _score_edges(model)
        self._scored: OrderedDict[bytes, None] = OrderedDict()
        for reason in REASONS:  # made now, because rate() does not see a counter that is born with its first increase
            REJECTED.labels(self._name, reason)
        self._prepare()

    def tokens(self, predictions: list[Any]) -> list[str]:
        """Return a token per prediction, in their order."""
        answers = self._output.answers(predictions)
        return self._signer.issue(self._version, [(answer, bisect_left(self._edges, answer)) for answer in answers])

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """Score the labels of a request, and say which ones were not.

        Raises:
            ProblemError: the body is wrong, or none of its labels could be scored.
        """
        entries = self._entries(await body.read(scope, receive, self._most_bytes, self._seconds))
        rejected: list[CellError] = []
        for row, entry in enumerate(entries):
            try:
                self._score(*_parts(entry))
            except RejectedError as refusal:
                REJECTED.labels(self._name, refusal.reason).inc()
                column = "label" if refusal.reason == "bad_label" else "token"
                rejected.append(CellError(row, column, str(refusal)))
        if len(rejected) == len(entries):
            raise InvalidInputError("None of the labels could be scored.", rejected[:LISTED_ERRORS], len(rejected))
        return orjson.dumps({"accepted": len(entries) - len(rejected), "rejected": rejected})

    def _entries(self, content: bytes) -> list[Any]:
        try:
            payload = from_json(content, allow_inf_nan=False)
        except ValueError:
            raise NotJsonError("The body is no JSON.") from None
        entries = payload.get("labels") if isinstance(payload, dict) and len(payload) == 1 else None
        if not isinstance(entries, list) or not entries:
            raise InvalidInputError(_FORM)
        if len(entries) > self._most:
            raise TooLargeError(f"The body has {len(entries)} labels; at most {self._most} are taken at once.")
        return entries

    def _score(self, text: str, label: Any) -> None:
        try:
            token = self._signer.read(text)
        except TokenError:
            raise RejectedError("bad_token", "is no token of a prediction by this service") from None
        age = time.time() - token.issued_at
        if age > self._max_age:
            raise RejectedError("expired", f"is older than the {self._max_age:g} s in which labels are taken")
        if token.identity in self._scored:
            raise RejectedError("duplicate", "was scored before")
        labels = (self._name, token.version)
        self._count(labels, token, label)
        LABELS.labels(*labels).inc()
        DELAY.labels(*labels).observe(max(age, 0))
        self._scored[token.identity] = None
        while len(self._scored) > REMEMBERED_TOKENS:
            self._scored.popitem(last=False)

    def _count(self, labels: tuple[str, str], token: Token, label: Any) -> None:
        classes = self._output.classes
        if self._output.form == "number":
            if isinstance(label, bool) or not isinstance(label, int | float) or not abs(label) < 1e300:
                raise RejectedError("bad_label", "must be a number")
            error = token.answer - float(label)
            SQUARED_ERROR.labels(*labels).inc(error * error)
            ABSOLUTE_ERROR.labels(*labels, "over" if error > 0 else "under").inc(abs(error))
            return
        if not isinstance(label, str) or label not in classes:
            raise RejectedError("bad_label", f"must be one of the model's classes: {', '.join(classes[:10])}")
        if self._output.form == "label" or self._output.task == "multiclass":
            predicted = int(token.answer)
            if predicted >= len(classes):
                raise RejectedError("bad_label", "is of a version with other classes")
            CONFUSION.labels(*labels, classes[predicted], label).inc()
            CORRECT.labels(*labels).inc(classes[predicted] == label)
            return
        positive = label == classes[1]
        outcome = "positive" if positive else "negative"
        CORRECT.labels(*labels).inc((token.answer > 0.5) == positive)
        SCORES.labels(*labels, outcome, f"{token.bin:02d}").inc()
        for above in range(token.bin, SCORE_BINS):
            CUMULATIVE.labels(*labels, outcome, f"{above:02d}").inc()
        SCORE_SUM.labels(*labels, f"{token.bin:02d}").inc(token.answer)
        SQUARED_ERROR.labels(*labels).inc((token.answer - positive) ** 2)

    def _prepare(self) -> None:
        """Make the children of the served version, for the same reason."""
        labels = (self._name, self._version)
        LABELS.labels(*labels)
        output = self._output
        if output.form == "number":
            SQUARED_ERROR.labels(*labels)
            for sign in ("over", "under"):
                ABSOLUTE_ERROR.labels(*labels, sign)
            return
        CORRECT.labels(*labels)
        if output.form == "label" or output.task == "multiclass":
            for predicted in output.classes:
                for actual in output.classes:
                    CONFUSION.labels(*labels, predicted, actual)
        else:
            SQUARED_ERROR.labels(*labels)
            for place in range(SCORE_BINS):
                SCORE_SUM.labels(*labels, f"{place:02d}")
                for outcome in ("positive", "negative"):
                    SCORES.labels(*labels, outcome, f"{place:02d}")
                    CUMULATIVE.labels(*labels, outcome, f"{place:02d}")


class FeedbackEndpoint:
    """POST /feedback of a service.

    Args:
        current: returns what scores the labels of the served model; None while there is none.
    """

    def __init__(self, current: Callable[[], Feedback | None]) -> None:
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; problems are the application's to answer."""
        feedback = self._current()
        if feedback is None:
            raise NotReadyError
        try:
            answer = Response(await feedback.answer(scope, receive), media_type="application/json")
        except ClientGoneError:
            answer = Response(status_code=CLIENT_CLOSED_REQUEST)
        await answer(scope, receive, send)


def _keys(folder: Path | None) -> list[str]:
    try:
        return list(keys.read(folder)[0].values()) if folder else []
    except OSError as error:
        cause = f"the folder of the feedback keys cannot be read ({error.strerror})"
        raise LoadError(cause, "mount the Secret", retryable=True) from None


def _score_edges(model: Model) -> list[float]:
    """Return the bounds of a score's bins; none for answers that are no scores."""
    if model.output.task != "binary" or model.output.form != "probabilities":
        return []
    profile = model.contract.profile if model.contract else None
    return list(profile.score_edges if profile else ()) or [i / SCORE_BINS for i in range(1, SCORE_BINS)]


def _parts(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, dict) or entry.keys() != {"token", "label"} or not isinstance(entry["token"], str):
        raise RejectedError("bad_token", "is missing: each label is an object with token and label")
    return entry["token"], entry["label"]
