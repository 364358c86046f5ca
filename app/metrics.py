"""Define every metric of the service, and answer GET /metrics.

The HTTP metrics (http_server_*) are starlette-exporter's; app.main configures it, and app.front writes the same
series for /predict. Labels are closed sets: of what a caller sends, only the HTTP method becomes one, behind a guard.
"""

import gzip

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from app.model import Model
from app.observations import observations

REASONS = ("invalid_input", "too_large", "overloaded", "timeout", "cancelled", "model_error")
STAGES = ("validate", "queue", "predict", "respond")
# Dense where boosters answer, from half a millisecond to a tenth of a second.
STAGE_BUCKETS_SECONDS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROW_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_MODEL = ("model_name", "model_version")

MODEL_INFO = Gauge("model_info", "The loaded model; always 1.", [*_MODEL, "run_id", "sha256"])
TRAINED = Gauge("model_trained_timestamp_seconds", "When the model was logged, as Unix time.", _MODEL)
LOADED = Gauge("model_loaded_timestamp_seconds", "When this process had the model, as Unix time.", _MODEL)
LOAD_SECONDS = Gauge("model_load_duration_seconds", "From the start of loading until the model could answer.", _MODEL)
REFERENCE_METRIC = Gauge("model_reference_metric", "How good the model was on held-out rows.", [*_MODEL, "metric"])
WAITING = Gauge("model_requests_waiting", "Requests that wait for one of the slots.", ["model_name"])
LIMIT = Gauge("model_concurrency_limit", "Requests that are predicted at the same time at most.", ["model_name"])
PREDICTIONS = Counter("model_predictions_total", "Rows predicted.", _MODEL)
ROWS = Histogram("model_request_rows", "Rows of a request that got its predictions.", _MODEL, buckets=ROW_BUCKETS)
ERRORS = Counter("model_errors_total", "Requests to /predict that got no prediction.", [*_MODEL, "reason"])
EXPLANATIONS = Counter("model_explanations_total", "Rows explained.", _MODEL)
EXPLANATION_ERRORS = Counter(
    "model_explanation_errors_total", "Requests to /explain that got no explanation.", [*_MODEL, "reason"]
)
STAGE_SECONDS = Histogram(
    "model_inference_duration_seconds",
    "Time of one stage of a /predict request, in seconds.",
    [*_MODEL, "stage"],
    buckets=STAGE_BUCKETS_SECONDS,
)


class ModelMetrics:
    """The children of one model's metrics, made once: looking one up costs more than using it."""

    def __init__(self, model: Model, load_seconds: float) -> None:
        labels = (model.provenance.name, model.provenance.version)
        self._predictions, self._rows = PREDICTIONS.labels(*labels), observations(ROWS.labels(*labels))
        self.explanations = EXPLANATIONS.labels(*labels)
        # Made at load, because rate() does not see a counter that is born with its first error.
        self.errors = {reason: ERRORS.labels(*labels, reason) for reason in REASONS}
        self.explanation_errors = {reason: EXPLANATION_ERRORS.labels(*labels, reason) for reason in REASONS}
        self.validate, self.queue, self.predict, self.respond = (
            observations(STAGE_SECONDS.labels(*labels, stage)) for stage in STAGES
        )
        MODEL_INFO.labels(*labels, model.provenance.run_id, model.sha256).set(1)
        LOADED.labels(*labels).set(model.loaded_at.timestamp())
        LOAD_SECONDS.labels(*labels).set(load_seconds)
        if model.trained_at:
            TRAINED.labels(*labels).set(model.trained_at.timestamp())
        for name, value in (model.contract.metrics if model.contract else {}).items():
            REFERENCE_METRIC.labels(*labels, name).set(value)

    def predicted(self, rows: int) -> None:
        """Count the rows of a request."""
        self._predictions.inc(rows)
        self._rows.observe(rows)


async def metrics_endpoint(request: Request) -> Response:
    """Answer in the text format the scraper asks for.

    Async, because sync endpoints wait for a thread: under overload, metrics would be lost just when needed.
    """
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    content = encode(REGISTRY)
    headers = {"Vary": "Accept, Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=content_type)
