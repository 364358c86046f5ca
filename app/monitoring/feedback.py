"""Scoring of labels that arrive after their predictions.

The results are counters from which PromQL computes AUC, calibration and errors.

Each pod keeps only a bounded memory of the tokens that it has scored: a label sent twice to the same pod counts once.
"""

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import Counter, Histogram

from app import key_files
from app.context import CALLER, REQUEST_ID
from app.errors import CellError, LoadError
from app.model.base import Model
from app.model.contract import SCORE_BINS
from app.model.output import Challenged, Predictions
from app.monitoring.challenger import COMPARED, GAIN, SQUARED_GAIN
from app.monitoring.segment_writer import SegmentWriter
from app.monitoring.segments import LoggedLabel
from app.monitoring.tokens import Answer, Signer, TokenError
from app.settings import Settings

REMEMBERED_TOKENS = 200_000  # about 20 MB
Scored = OrderedDict[bytes, None]  # identities of the tokens whose labels were scored, oldest first

REASONS = ("bad_token", "expired", "duplicate", "bad_label")
# Predictions are 32-bit numbers too. The fourth power, of which model_challenger_squared_gain_total is a sum, stays
# finite: a counter that became infinite would stay so until the pod ends.
GREATEST_LABEL = float(np.finfo(np.float32).max)
DELAY_BUCKETS_SECONDS = (60, 600, 3600, 21_600, 86_400, 259_200, 604_800, 1_209_600, 2_592_000)

_MODEL = ("model_name", "model_version")

LABELS = Counter(
    "model_feedback_labels_total",
    "Labels scored. Each pod remembers only the tokens that it scored itself, until it ends: a label that is sent "
    "again to a different pod is counted again.",
    _MODEL,
)
SCORES = Counter("model_feedback_scores_total", "Labels by the bin of their score.", [*_MODEL, "outcome", "bin"])
CUMULATIVE = Counter(
    "model_feedback_scores_cumulative_total",
    "Labels by the bin of their score and all bins above, so that AUC is a plain sum.",
    [*_MODEL, "outcome", "bin"],
)
SCORE_SUM = Counter("model_feedback_score_sum_total", "Sum of the scores with a label.", [*_MODEL, "bin"])
SQUARED_ERROR = Counter("model_feedback_squared_error_total", "Sum of squared differences from the label.", _MODEL)
ABSOLUTE_ERROR = Counter(
    "model_feedback_absolute_error_total",
    "Sum of absolute differences from the label; sign is that of the prediction minus the label.",
    [*_MODEL, "sign"],
)
CORRECT = Counter("model_feedback_correct_total", "Labels that match the most probable class.", _MODEL)
CONFUSION = Counter("model_feedback_confusion_total", "Labels by predicted class.", [*_MODEL, "predicted", "actual"])
DELAY = Histogram(
    "model_feedback_delay_seconds", "Seconds from a prediction to its label.", _MODEL, buckets=DELAY_BUCKETS_SECONDS
)
REJECTED = Counter("model_feedback_rejected_total", "Labels that were not scored.", ["model_name", "reason"])

_COUNTS = (LABELS, SCORES, CUMULATIVE, SCORE_SUM, SQUARED_ERROR, ABSOLUTE_ERROR, CORRECT, CONFUSION, DELAY)


class RejectedError(Exception):
    """A label that is not scored, for one of the REASONS; the text is returned to the client."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class Feedback:
    """The tokens of one model's predictions, and the scoring of labels that are sent with them.

    Args:
        model: Served model. Tokens of its other versions are scored too, with the classes of this version.
        settings: Folder of the signing keys and maximum age of a token.
        scored: Tokens that were scored. It outlives a version, so that no label counts twice.
        segments: The inference log, which receives the labels that were scored.

    Raises:
        LoadError: A prediction of this model cannot be compared with a single label.
    """

    def __init__(self, model: Model, settings: Settings, scored: Scored, segments: SegmentWriter | None = None) -> None:
        self._output = model.output
        if not self._output.comparable:
            raise LoadError(
                "its predictions are neither a named class nor a number that a label contains, so a label cannot be "
                "compared with one",
                "turn feedback off",
            )
        self._name, self._version = model.provenance.name, model.provenance.version
        self._signer = Signer(_keys(settings.feedback_keys_dir), self._name)
        self._max_age = settings.feedback_max_age_seconds
        self._edges = score_edges(model)
        self._scored = scored
        self._segments = segments
        for reason in REASONS:  # created now, because rate() does not see the first increase of a new counter
            REJECTED.labels(self._name, reason)
        self.prepare(self._version)

    def tokens(self, predictions: Predictions) -> list[str]:
        """Return a token per prediction, in their order, with the challenger's answer where it has one.

        The predictions keep their tokens, which connect them with labels in the inference log.
        """
        answers = [_binned(number, self._edges) for number in self._output.answers(predictions.values)]
        predictions.tokens = self._issued(answers, predictions.challenged)
        return predictions.tokens

    def _issued(self, answers: Sequence[Answer], challenged: Challenged | None) -> list[str]:
        if challenged is None:
            return self._signer.issue(self._version, answers)
        finite = np.isfinite(challenged.numbers).all(axis=1).tolist()
        numbers = self._output.numbers_of(np.nan_to_num(challenged.numbers))
        others = [
            _binned(number, challenged.edges) if valid else None for number, valid in zip(numbers, finite, strict=True)
        ]
        return self._signer.issue(self._version, answers, challenged.version, others)

    def score(self, entries: list[Any]) -> list[CellError]:
        """Score the labels and return those that were rejected, each with the reason."""
        rejected: list[CellError] = []
        for row, entry in enumerate(entries):
            try:
                self._score(*_parts(entry))
            except RejectedError as refusal:
                REJECTED.labels(self._name, refusal.reason).inc()
                column = "label" if refusal.reason == "bad_label" else "token"
                rejected.append(CellError(row, column, str(refusal)))
        return rejected

    def _score(self, text: str, label: Any) -> None:
        try:
            token = self._signer.read(text)
        except TokenError:
            raise RejectedError("bad_token", "is not a token of a prediction by this service") from None
        age = time.time() - token.issued_at
        if age > self._max_age:
            raise RejectedError("expired", f"is older than {self._max_age} s, the maximum age for a label")
        if token.identity in self._scored:
            raise RejectedError("duplicate", "was already scored")
        labels = (self._name, token.version)
        loss = self._count(labels, Answer(token.answer, token.bin), label)
        LABELS.labels(*labels).inc()
        if token.challenger:
            self._compare(token.version, *token.challenger, label, loss)
        DELAY.labels(*labels).observe(max(age, 0))
        self._scored[token.identity] = None
        while len(self._scored) > REMEMBERED_TOKENS:
            self._scored.popitem(last=False)
        if self._segments:
            made = token.identity.hex(), self._name, token.version, REQUEST_ID.get(), CALLER.get()
            self._segments.label(LoggedLabel(time.time(), *made, label if isinstance(label, str) else float(label)))

    def _compare(self, version: str, challenger: str, answer: Answer, label: Any, loss: float) -> None:
        """Count a label for the challenger too, and how much smaller its loss is than that of the served model."""
        labels = (self._name, challenger)
        with suppress(RejectedError):  # its classes are not those of this version
            gain = loss - self._count(labels, answer, label)
            LABELS.labels(*labels).inc()
            pair = (self._name, version, challenger)
            COMPARED.labels(*pair).inc()
            GAIN.labels(*pair, "better" if gain > 0 else "worse").inc(abs(gain))
            SQUARED_GAIN.labels(*pair).inc(gain * gain)

    def _count(self, labels: tuple[str, str], answer: Answer, label: Any) -> float:
        """Count a label, and return the loss: the squared error of a number or score, and 0 or 1 for a class."""
        classes = self._output.classes
        if self._output.form == "number":
            if isinstance(label, bool) or not isinstance(label, int | float):
                raise RejectedError("bad_label", "must be a number")
            if not abs(label) <= GREATEST_LABEL:
                raise RejectedError("bad_label", f"must be between -{GREATEST_LABEL:.2g} and {GREATEST_LABEL:.2g}")
            error = answer.number - float(label)
            SQUARED_ERROR.labels(*labels).inc(error * error)
            ABSOLUTE_ERROR.labels(*labels, "over" if error > 0 else "under").inc(abs(error))
            return error * error
        if not isinstance(label, str) or label not in classes:
            raise RejectedError("bad_label", f"must be one of the model's classes: {', '.join(classes[:10])}")
        if self._output.form == "label" or self._output.task == "multiclass":
            predicted = int(answer.number)
            if predicted >= len(classes):
                raise RejectedError("bad_label", "belongs to a model version with different classes")
            CONFUSION.labels(*labels, classes[predicted], label).inc()
            CORRECT.labels(*labels).inc(classes[predicted] == label)
            return float(classes[predicted] != label)
        positive = label == classes[1]
        outcome = "positive" if positive else "negative"
        CORRECT.labels(*labels).inc((answer.number > 0.5) == positive)
        SCORES.labels(*labels, outcome, f"{answer.bin:02d}").inc()
        for above in range(answer.bin, SCORE_BINS):
            CUMULATIVE.labels(*labels, outcome, f"{above:02d}").inc()
        SCORE_SUM.labels(*labels, f"{answer.bin:02d}").inc(answer.number)
        error = (answer.number - positive) ** 2
        SQUARED_ERROR.labels(*labels).inc(error)
        return error

    def prepare(self, version: str) -> None:
        """Create the children of a version, for the same reason."""
        labels = (self._name, version)
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


def forget(name: str, version: str) -> None:
    """Remove all series of a version."""
    for metric in _COUNTS:
        metric.remove_by_labels({"model_name": name, "model_version": version})


def _keys(folder: Path | None) -> list[str]:
    try:
        return list(key_files.read(folder)[0].values()) if folder else []
    except OSError as error:
        cause = f"the folder with the feedback keys cannot be read ({error.strerror})"
        raise LoadError(cause, "mount the Secret", retryable=True) from None


def _binned(number: float, edges: Sequence[float]) -> Answer:
    return Answer(number, bisect_left(edges, number))


def score_edges(model: Model) -> list[float]:
    """Return the bounds of the score bins, or an empty list if the answers are not scores."""
    if model.output.task != "binary" or model.output.form != "probabilities":
        return []
    profile = model.contract.profile if model.contract else None
    return list(profile.score_edges if profile else ()) or [i / SCORE_BINS for i in range(1, SCORE_BINS)]


def _parts(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, dict) or entry.keys() != {"token", "label"} or not isinstance(entry["token"], str):
        raise RejectedError("bad_token", "is missing: each entry must be an object with token and label")
    return entry["token"], entry["label"]
