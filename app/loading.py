"""Load the model in the background, and know whether this process can answer.

The thread is a daemon, so that neither a slow download nor a long wait keeps the process from ending.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from app.coalescing import Coalescer
from app.contract import CONTRACT_FILE
from app.drift import DISTRIBUTIONS, Drift
from app.errors import LoadError
from app.feedback import Feedback
from app.limits import Limits
from app.metrics import ModelMetrics
from app.model import BoosterModel, Model
from app.obtain import obtain
from app.parameters import NO_PARAMETERS, Parameters
from app.payload import PayloadLog
from app.rows import Reader
from app.settings import Settings
from app.signature import Cells
from app.source import ModelFolder

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 10.0  # so a pod is ready soon after MLflow is back

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model, the metrics that carry its name and the way to and from its predictions; they change together."""

    model: Model
    metrics: ModelMetrics
    reader: Reader
    coalescer: Coalescer
    payloads: PayloadLog | None  # None: nothing is logged of any payload
    feedback: Feedback | None  # None: predictions carry no tokens, and no labels are taken
    drift: Drift | None  # None: the model has no reference profile, or nothing is to be counted

    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row, and count what was asked and answered, as Model.predict does."""
        return self.model.predict(rows, parameters) if parameters else _counted(self.model, self.drift, rows)


class Service:
    """The state of the process: which model it has, and whether it is on its way out.

    Args:
        settings: what to load and from where.
        on_failure: called once, from the loading thread, when the model will not load.
    """

    def __init__(self, settings: Settings, on_failure: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.loaded: Loaded | None = None
        self.limits = Limits(settings, settings.max_concurrency)
        self.limits.publish()
        self._on_failure = on_failure
        self._last_problem = ""
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to load."""
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()

    def drain(self) -> None:
        """Stop being ready; requests are still answered. Safe in a signal handler."""
        self._stopping.set()

    @property
    def reasons(self) -> list[str]:
        """Why this process should get no requests; empty when it should."""
        found = []
        if self._stopping.is_set():
            found.append("shutting down")
        if self.loaded is None:
            found.append(self._last_problem or f"loading {self.settings.model_uri}")
        if self.limits.saturated:
            found.append("saturated: requests are refused because all slots are taken")
        return found

    def _run(self) -> None:
        settings = self.settings
        where = {} if isinstance(settings.source, ModelFolder) else {"tracking_address": settings.tracking_address}
        log.info("loading", extra={"uri": settings.model_uri, "most_seconds": settings.load_timeout_seconds, **where})
        started = time.monotonic()
        deadline = started + settings.load_timeout_seconds
        wait = FIRST_WAIT_SECONDS
        attempt = 0
        while not self._stopping.is_set():
            attempt += 1
            try:
                loaded = obtain(settings, deadline)
                sampled = settings.payload_sample_ratio > 0
                payloads = PayloadLog(settings, loaded.provenance, loaded.signature.names) if sampled else None
                feedback = Feedback(loaded, settings) if settings.feedback_keys_dir else None
                drift = _drift(loaded, settings.drift_max_features)
            except LoadError as error:
                problem = error
            except Exception as error:
                log.error("unexpected failure while loading", exc_info=True)
                problem = LoadError(f"unexpected {type(error).__name__}", "see the log", retryable=True)
            else:
                metrics = ModelMetrics(loaded, time.monotonic() - started)
                reader = Reader(loaded.signature, settings.max_rows)
                coalescer = Coalescer(partial(_counted, loaded, drift), metrics.predict.observe)
                if drift:
                    DISTRIBUTIONS.add(drift)
                made = Loaded(loaded, metrics, reader, coalescer, payloads, feedback, drift)
                # What is there now stays: the collector need not walk through it again and again.
                gc.collect()
                gc.freeze()
                seconds = round(time.monotonic() - started, 2)
                known = loaded.provenance
                log.info("ready", extra={"uri": known.uri, "version": known.version, "seconds": seconds})
                self.loaded = made  # last, so that no request waits for the collector
                return
            self._last_problem = self._sentence(problem)
            left = deadline - time.monotonic()
            if not problem.retryable or left <= FIRST_WAIT_SECONDS:
                self._give_up()
                return
            pause = min(wait, left - FIRST_WAIT_SECONDS / 2)  # so the last attempt still has time for an answer
            extra = {"attempt": attempt, "retry_in_seconds": round(pause, 1), "seconds_left": round(left)}
            log.warning(self._last_problem, extra=extra)
            self._stopping.wait(pause)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _give_up(self) -> None:
        log.error(self._last_problem)
        leave_message(self.settings.termination_message_path, self._last_problem)
        if self._on_failure:
            self._on_failure(self._last_problem)

    def _sentence(self, error: LoadError) -> str:
        settings = self.settings
        where = "" if isinstance(settings.source, ModelFolder) else f" from {settings.tracking_address}"
        return f"Cannot load {settings.model_uri}{where}: {error}."


def _drift(loaded: Model, most_features: int) -> Drift | None:
    """Return what counts the model's inputs and answers against its reference profile, when it has one."""
    if not most_features or not isinstance(loaded, BoosterModel):
        return None
    profile = loaded.contract.profile if loaded.contract else None
    if profile is None:
        log.info("no drift is counted", extra={"why": f"{CONTRACT_FILE} has no reference profile"})
        return None
    labels = (loaded.provenance.name, loaded.provenance.version)
    drift = Drift(profile, loaded.signature.columns, loaded.output, labels, most_features)
    bins = [len(each.bins) for each in drift.bins.variables]
    log.info("drift is counted", extra={"variables": len(bins), "bins": sum(bins)})
    return drift


def _counted(loaded: Model, drift: Drift | None, rows: Cells) -> list[Any]:
    if drift is None or not isinstance(loaded, BoosterModel):
        return loaded.predict(rows)
    answer = loaded.answer(rows)
    drift.count(rows, answer)
    return loaded.output.values(answer)


def leave_message(path: Path, sentence: str) -> None:
    """Leave the sentence where the kubelet looks for it; outside Kubernetes there may be no such place."""
    with suppress(OSError):
        path.write_text(sentence + "\n", encoding="utf-8")
