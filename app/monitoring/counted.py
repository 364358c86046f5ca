"""Predictions of any model, counted for drift and offered to a challenger."""

import logging
import time
from typing import cast

from app.model.base import Model
from app.model.contract import CONTRACT_FILE
from app.model.output import Predictions
from app.model.parameters import NO_PARAMETERS, Parameters
from app.model.pyfunc import PyfuncModel
from app.model.signature import Cells
from app.model.worker import Answer
from app.model.xgboost import BoosterModel
from app.monitoring.drift import Drift
from app.monitoring.pyfunc_drift import PyfuncDrift
from app.monitoring.shadow import Shadow

log = logging.getLogger(__name__)


def drift_of(model: Model, most_features: int) -> Drift | None:
    """Return the drift counts of a model, or None if its drift is not counted.

    Args:
        model: Loaded model. Drift is counted if its contract has a reference profile.
        most_features: Maximum number of features to count; 0 turns counting off.

    Raises:
        LoadError: The profile does not belong to the model.
    """
    if not most_features:
        return None
    profile = model.contract.profile if model.contract else None
    if profile is None:
        log.info("drift is not counted", extra={"why": f"{CONTRACT_FILE} has no reference profile"})
        return None
    labels = (model.provenance.name, model.provenance.version)
    kind = PyfuncDrift if isinstance(model, PyfuncModel) else Drift
    drift = kind(profile, model.signature.features, model.output, labels, most_features)
    bins = [len(each.bins) for each in drift.bins.variables]
    log.info("drift is counted", extra={"variables": len(bins), "bins": sum(bins)})
    return drift


def predict(
    model: Model, drift: Drift | None, shadow: Shadow | None, rows: Cells, parameters: Parameters = NO_PARAMETERS
) -> Predictions:
    """Return the model's predictions. The rows and the predictions are counted by `drift`, and offered to `shadow`."""
    if not isinstance(model, BoosterModel):
        worked = cast(PyfuncModel, model)
        return answered(worked, drift, rows, worked.submit(rows, parameters).result())
    begin = time.perf_counter()
    answer = model.answer(rows)
    seconds = time.perf_counter() - begin
    if drift:
        drift.count(rows, answer)
    challenged = shadow.offer(model, rows, answer, seconds) if shadow else None
    return Predictions(model.output, answer, challenged=challenged)


def answered(model: PyfuncModel, drift: Drift | None, rows: Cells, answer: Answer) -> Predictions:
    """Return the predictions of a worker's answer, and count the rows and the predictions if `drift` is given.

    Raises:
        ValueError: The form of the answer differs from the model's output.
    """
    predictions = Predictions(model.output, None, model.values(answer))
    if isinstance(drift, PyfuncDrift):
        drift.count_answer(rows, answer.table)
    return predictions
