"""Metrics of the loaded model and of the requests that it predicts and explains.

Feedback and drift define their metrics in app.monitoring.feedback and app.monitoring.drift. The HTTP metrics
(http_server_*) come from starlette-exporter, which app.main configures; app.http.front records /predict in them.

Labels take values from closed sets. The HTTP method is the only label that a client controls, and app.http.front
rejects unknown methods before they are counted.
"""

from prometheus_client import Counter, Gauge, Histogram

from app.model.base import Model
from app.model.pyfunc import PyfuncModel
from app.monitoring.observations import discard, observations

REASONS = ("invalid_input", "too_large", "overloaded", "timeout", "cancelled", "model_error", "model_unavailable")
STAGES = ("validate", "queue", "predict", "respond")
# Dense in the range of boosters, from half a millisecond to a tenth of a second.
STAGE_BUCKETS_SECONDS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROW_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_MODEL = ("model_name", "model_version")

MODEL_INFO = Gauge("model_info", "Loaded model; always 1.", [*_MODEL, "run_id", "sha256"])
CONFIRMED = Gauge(
    "model_origin_confirmed",
    "1 if the source named this version to this process; 0 if it serves a copy, and the source is unreachable or "
    "names a different version.",
    [*_MODEL, "origin"],
)
TRAINED = Gauge("model_trained_timestamp_seconds", "Unix time at which the model was logged.", _MODEL)
LOADED = Gauge("model_loaded_timestamp_seconds", "Unix time at which this process loaded the model.", _MODEL)
LOAD_SECONDS = Gauge("model_load_duration_seconds", "Time that loading the model took, in seconds.", _MODEL)
REFERENCE_METRIC = Gauge("model_reference_metric", "Metric of the model on holdout rows.", [*_MODEL, "metric"])
WAITING = Gauge("model_requests_waiting", "Requests in the queue, waiting for a slot.", ["model_name"])
LIMIT = Gauge("model_concurrency_limit", "Maximum number of concurrent predictions.", ["model_name"])
PREDICTIONS = Counter("model_predictions_total", "Rows predicted.", _MODEL)
ROWS = Histogram("model_request_rows", "Rows per successful prediction request.", _MODEL, buckets=ROW_BUCKETS)
ERRORS = Counter("model_errors_total", "Failed requests to /predict.", [*_MODEL, "reason"])
EXPLANATIONS = Counter("model_explanations_total", "Rows explained.", _MODEL)
EXPLANATION_ERRORS = Counter("model_explanation_errors_total", "Failed requests to /explain.", [*_MODEL, "reason"])
STAGE_SECONDS = Histogram(
    "model_inference_duration_seconds",
    "Duration of one stage of a /predict request, in seconds.",
    [*_MODEL, "stage"],
    buckets=STAGE_BUCKETS_SECONDS,
)
WORKER_SECONDS = Histogram(
    "model_worker_call_duration_seconds",
    "Duration of one call of the model's own process, in seconds.",
    _MODEL,
    buckets=STAGE_BUCKETS_SECONDS,
)
WORKER_LOSSES = Counter("model_worker_restarts_total", "Restarts of the model's own process.", _MODEL)
WORKER_MEMORY = Gauge("model_worker_memory_bytes", "Memory of the model's own process, in bytes.", _MODEL)
WORKER_READY = Gauge("model_worker_ready", "1 if the model's own process can predict, 0 while it restarts.", _MODEL)

_DESCRIPTIONS = (MODEL_INFO, CONFIRMED, TRAINED, LOADED, LOAD_SECONDS, REFERENCE_METRIC)
_COUNTS = (PREDICTIONS, ROWS, ERRORS, EXPLANATIONS, EXPLANATION_ERRORS, STAGE_SECONDS)


class ModelMetrics:
    """The children of one model's metrics, created once because a lookup costs more than an increment."""

    def __init__(self, model: Model, origin: str, load_seconds: float) -> None:
        labels = (model.provenance.name, model.provenance.version)
        self._predictions, self._rows = PREDICTIONS.labels(*labels), observations(ROWS.labels(*labels))
        self.explanations = EXPLANATIONS.labels(*labels)
        # Created at load, because rate() does not see the first increase of a new counter.
        self.errors = {reason: ERRORS.labels(*labels, reason) for reason in REASONS}
        self.explanation_errors = {reason: EXPLANATION_ERRORS.labels(*labels, reason) for reason in REASONS}
        self.validate, self.queue, self.predict, self.respond = (
            observations(STAGE_SECONDS.labels(*labels, stage)) for stage in STAGES
        )
        self._model, self._labels, self._origin, self._load_seconds = model, labels, origin, load_seconds
        if isinstance(model, PyfuncModel):
            worker = model.worker
            worker.observe = observations(WORKER_SECONDS.labels(*labels)).observe
            worker.lost = WORKER_LOSSES.labels(*labels).inc
            WORKER_MEMORY.labels(*labels).set_function(lambda: worker.memory)
            WORKER_READY.labels(*labels).set_function(lambda: not worker.problem)

    def publish(self, *, confirmed: bool) -> None:
        """Export what describes the served model."""
        model, labels = self._model, self._labels
        MODEL_INFO.labels(*labels, model.provenance.run_id, model.sha256).set(1)
        self.confirm(confirmed)
        LOADED.labels(*labels).set(model.loaded_at.timestamp())
        LOAD_SECONDS.labels(*labels).set(self._load_seconds)
        if model.trained_at:
            TRAINED.labels(*labels).set(model.trained_at.timestamp())
        for name, value in (model.contract.metrics if model.contract else {}).items():
            REFERENCE_METRIC.labels(*labels, name).set(value)

    def confirm(self, confirmed: bool) -> None:
        """Export whether the source named this version."""
        CONFIRMED.labels(*self._labels, self._origin).set(confirmed)

    def withdraw(self) -> None:
        """Remove what `publish` exported, because a different model is served. The counters stay."""
        _remove(_DESCRIPTIONS, *self._labels)

    @property
    def requests(self) -> int:
        """Number of requests that were predicted."""
        return self._rows.count

    @property
    def faults(self) -> int:
        """Number of requests that failed because the model failed on valid rows."""
        return int(self.errors["model_error"]._value.get())

    def predicted(self, rows: int) -> None:
        """Count the rows of a successful request."""
        self._predictions.inc(rows)
        self._rows.observe(rows)


def forget(name: str, version: str) -> None:
    """Remove all series of a version."""
    discard(ROWS.labels(name, version))
    for stage in STAGES:
        discard(STAGE_SECONDS.labels(name, version, stage))
    _remove((*_DESCRIPTIONS, *_COUNTS), name, version)


def _remove(metrics: tuple[Counter | Gauge | Histogram, ...], name: str, version: str) -> None:
    for metric in metrics:
        metric.remove_by_labels({"model_name": name, "model_version": version})
