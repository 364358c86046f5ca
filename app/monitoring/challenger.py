"""Metrics of a challenger: how its predictions differ from those of the served model, and what it costs."""

from collections import deque

from prometheus_client import Counter, Gauge, Histogram

from app.model.xgboost import BoosterModel
from app.monitoring.model_metrics import STAGE_BUCKETS_SECONDS
from app.monitoring.observations import discard, observations

DIFFERENCE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
KEPT_PAIRS = 2  # whose series are exported, so that their number does not grow with the number of versions

_PAIR = ("model_name", "model_version", "challenger_version")

INFO = Gauge("model_challenger_info", "Challenger of the served model; always 1.", [*_PAIR, "run_id", "sha256"])
REFUSED = Gauge(
    "model_challenger_refused_info",
    "Challenger that is not compared with the served model, and why; always 1.",
    ["model_name", "challenger_version", "reason"],
)
ROWS = Counter("model_challenger_rows_total", "Rows that both models predicted.", _PAIR)
DROPPED = Counter(
    "model_challenger_dropped_rows_total", "Rows that were not compared, because the queue was full.", _PAIR
)
ERRORS = Counter("model_challenger_errors_total", "Rows that the challenger could not predict.", _PAIR)
DISAGREEMENTS = Counter(
    "model_challenger_disagreements_total",
    "Rows with different classes or, for numbers, with a difference above the tolerance.",
    _PAIR,
)
DIFFERENCE = Histogram(
    "model_challenger_difference",
    "Difference between both predictions of a row: of probabilities, or of numbers in units of the champion's spread.",
    _PAIR,
    buckets=DIFFERENCE_BUCKETS,
)
SECONDS = Histogram(
    "model_challenger_duration_seconds",
    "Duration of one call of the challenger in the background, in seconds.",
    _PAIR,
    buckets=STAGE_BUCKETS_SECONDS,
)

COMPARED = Counter("model_challenger_labels_total", "Labels that were scored for both models.", _PAIR)
GAIN = Counter(
    "model_challenger_gain_total",
    "Sum of the differences between the losses of both models, by the sign: the squared error of a number or a score, "
    "or 1 for a wrong class.",
    [*_PAIR, "sign"],
)
SQUARED_GAIN = Counter("model_challenger_squared_gain_total", "Sum of the squares of these differences.", _PAIR)
SIGNS = ("better", "worse")  # the challenger's loss is smaller or larger

_COUNTS = (COMPARED, GAIN, SQUARED_GAIN, ROWS, DROPPED, ERRORS, DISAGREEMENTS, DIFFERENCE, SECONDS)
_pairs: deque[tuple[str, str, str]] = deque()


class ChallengerMetrics:
    """The children of one pair of models, created at once, because rate() does not see a first increase."""

    def __init__(self, champion: BoosterModel, challenger: BoosterModel) -> None:
        known = challenger.provenance
        labels = (champion.provenance.name, champion.provenance.version, known.version)
        self.rows, self.dropped = ROWS.labels(*labels), DROPPED.labels(*labels)
        self.errors, self.disagreements = ERRORS.labels(*labels), DISAGREEMENTS.labels(*labels)
        self.difference = observations(DIFFERENCE.labels(*labels)).extend
        COMPARED.labels(*labels)
        SQUARED_GAIN.labels(*labels)
        for sign in SIGNS:
            GAIN.labels(*labels, sign)
        self.seconds = observations(SECONDS.labels(*labels)).observe
        withdraw(labels[0])
        INFO.labels(*labels, known.run_id, challenger.sha256).set(1)
        if labels in _pairs:
            _pairs.remove(labels)
        _pairs.append(labels)
        while len(_pairs) > KEPT_PAIRS:
            _forget(*_pairs.popleft())


def withdraw(name: str) -> None:
    """Remove what describes the challenger of a model; the counters stay."""
    INFO.remove_by_labels({"model_name": name})
    REFUSED.remove_by_labels({"model_name": name})


def refuse(name: str, version: str, reason: str) -> None:
    """Export that a challenger is not compared with the model of this name."""
    withdraw(name)
    REFUSED.labels(name, version, reason).set(1)


def _forget(name: str, version: str, challenger: str) -> None:
    """Remove the counters of a pair."""
    discard(DIFFERENCE.labels(name, version, challenger))
    discard(SECONDS.labels(name, version, challenger))
    for metric in _COUNTS:
        metric.remove_by_labels({"model_name": name, "model_version": version, "challenger_version": challenger})
