"""A loaded model with everything that belongs to its version."""

import time
from dataclasses import dataclass
from functools import partial

from app.coalescing import MOST_ROWS, Coalescer
from app.model.base import Model
from app.model.output import Predictions
from app.model.parameters import NO_PARAMETERS, Parameters
from app.model.rows import Reader
from app.model.signature import Cells
from app.model.xgboost import BoosterModel
from app.monitoring import feedback, model_metrics
from app.monitoring.counted import drift_of, predict
from app.monitoring.drift import DISTRIBUTIONS, Drift
from app.monitoring.feedback import Feedback, Scored
from app.monitoring.inference_log import InferenceLog
from app.monitoring.model_metrics import ModelMetrics
from app.monitoring.payload import PayloadLog
from app.monitoring.segment_writer import SegmentWriter
from app.monitoring.shadow import Shadow
from app.registry.obtain import Obtained
from app.settings import Settings

# A switch to a thread costs about 0.1 ms. 100 rows take 0.4 ms with 100 trees and 1.5 ms with 500. Smaller requests
# would lose more time by the switch than they would block the event loop for.
INLINE_ROWS = 100
INLINE_TREES = 100_000  # that the rows of one request visit on the event loop, about 3 ms
VALUE_TREES = 10  # a value of a prediction costs about as much as this many trees


@dataclass(frozen=True)
class Lasting:
    """What outlives a version."""

    scored: Scored  # tokens whose labels were scored
    shadow: Shadow | None  # None: there is no challenger
    segments: SegmentWriter | None  # None: the inference log is off


@dataclass(frozen=True)
class Loaded:
    """A loaded model with everything that belongs to this version; all of it is replaced together."""

    obtained: Obtained[Model]
    metrics: ModelMetrics
    reader: Reader
    coalescer: Coalescer
    payloads: PayloadLog | None  # None: payloads are not logged to standard output
    inference_log: InferenceLog | None  # None: there is none
    feedback: Feedback | None  # None: predictions carry no tokens, and labels are not accepted
    drift: Drift | None  # None: the model has no reference profile, or counting is off
    inline_rows: int  # rows up to which the event loop predicts itself
    shadow: Shadow | None  # None: there is no challenger

    @property
    def model(self) -> Model:
        """The model itself."""
        return self.obtained.model

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.model.provenance.version

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> Predictions:
        """Return the predictions; the rows and predictions are counted for drift, and compared with a challenger's."""
        return predict(self.model, self.drift, self.shadow, rows, parameters)

    def publish(self) -> None:
        """Export the metrics that describe the served model."""
        self.metrics.publish(confirmed=self.obtained.confirmed)
        if self.drift:
            DISTRIBUTIONS.add(self.drift)


def equip(settings: Settings, obtained: Obtained[Model], begin: float, lasting: Lasting) -> Loaded:
    """Return the model with everything that belongs to it. Its metrics are not published yet.

    Args:
        settings: Settings of the service.
        obtained: The model.
        begin: Start of its loading, by time.monotonic().
        lasting: What outlives a version.

    Raises:
        LoadError: The settings do not suit the model.
    """
    model = obtained.model
    printed = settings.payload_sample_ratio > 0 and not lasting.segments
    payloads = PayloadLog(settings, model.provenance, model.signature.names) if printed else None
    logged = InferenceLog(settings, model, lasting.segments) if lasting.segments else None
    scorer = Feedback(model, settings, lasting.scored, lasting.segments) if settings.feedback_keys_dir else None
    drift = drift_of(model, settings.drift_max_features)
    metrics = ModelMetrics(model, obtained.origin, time.monotonic() - begin)
    reader = Reader(model.signature, settings.max_rows)
    inline = inline_rows(model)
    together = max(inline, MOST_ROWS * inline // INLINE_ROWS)
    coalescer = Coalescer(partial(predict, model, drift, lasting.shadow), metrics.predict.observe, together)
    logs = payloads, logged, scorer
    return Loaded(obtained, metrics, reader, coalescer, *logs, drift, inline, lasting.shadow)


def inline_rows(model: Model) -> int:
    """Return the number of rows up to which a prediction does not block the event loop for long."""
    trees = model.booster.tree_count if isinstance(model, BoosterModel) else 0
    return max(1, min(INLINE_ROWS, INLINE_TREES // max(trees, VALUE_TREES * model.output.width, 1)))


def forget(name: str, version: str) -> None:
    """Remove all series of a version, so that their number does not grow with the number of versions."""
    model_metrics.forget(name, version)
    feedback.forget(name, version)
    DISTRIBUTIONS.forget(name, version)
