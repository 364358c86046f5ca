"""The command `train`: data, split, fit, publish."""

import logging
from dataclasses import asdict
from typing import Any

from training import data, fit
from training.options import TrainOptions as Options
from training.publish import publish, started_run

__all__ = ["Options", "run"]

log = logging.getLogger("training")


def run(options: Options) -> dict[str, Any]:
    """Train and register one model version; return what names it.

    Raises:
        TrainingError: nothing is registered.
    """
    with started_run(options) as run_id:
        dataset = data.load()
        split = data.split(dataset, options.split_seed)
        fitted = fit.fit(dataset, split, options)
        log.info("%d rounds on %s: %s", fitted.rounds, dataset.name, fitted.metrics)
        return asdict(publish(run_id, dataset, split, fitted, options))
