"""Repetition of a training from its manifest."""

from dataclasses import dataclass

from app.model.calibration import calibrated
from app.model.contract import Isotonic, Platt
from training.data import dataset
from training.data.dataset import Data
from training.data.matrices import predict
from training.data.split import Split, split
from training.environment import Environment, environment
from training.errors import InputError
from training.fitting.calibrate import calibrate
from training.fitting.evaluate import measure
from training.fitting.fit import Fitted, fit
from training.tracking.manifest import Manifest


@dataclass(frozen=True)
class Retrained:
    """The repeated training."""

    data: Data
    split: Split
    fitted: Fitted
    calibration: Platt | Isotonic | None
    metrics: dict[str, float]
    environment: Environment


def retrain(recorded: Manifest, moved_data: str, nthread: int, git_commit: str) -> Retrained:
    """Fit with the recorded parameters and rounds, without another search."""
    if recorded.world_size > 1:
        raise InputError(
            f"{recorded.world_size} workers trained the model, each on its rows, which changes the model: train it "
            "again with the same number of workers, and compare the sha256."
        )
    spec = recorded.data.spec
    loaded = dataset.load(spec.model_copy(update={"source": moved_data}) if moved_data else spec)
    parts = split(loaded, recorded.split.spec)
    fitted = fit(loaded, parts.rest, recorded.params, recorded.rounds, nthread)
    calibration = calibrate(loaded, parts, recorded.params, recorded.rounds, nthread, recorded.calibration)
    output = predict(fitted.booster, loaded, parts.holdout, nthread)
    if calibration:
        output = calibrated(output, calibration)
    metrics = measure(loaded, parts.holdout, output, recorded.metric)
    return Retrained(loaded, parts, fitted, calibration, metrics, environment(git_commit, nthread))
