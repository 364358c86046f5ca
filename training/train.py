"""The command `train`: data, split, search, fit, publish."""

import hashlib
import logging
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from training import bundle, data, fit, split, together
from training import rounds as rounds_of
from training.boost import Checkpoints
from training.errors import InputError, ResourceError, TrackingError
from training.group import Group, announced, joined
from training.machine import environment
from training.options import TrainOptions as Options
from training.publish import publish
from training.runs import started
from training.search import search
from training.storage import NO_ROOM

__all__ = ["Options", "run"]

log = logging.getLogger(__name__)


def run(options: Options) -> dict[str, Any]:
    """Train and register one model version; return what names it.

    Raises:
        TrainingError: nothing is registered.
    """
    group = announced()
    if not group.first:
        with joined():
            fitted = _trained(options, group).fitted
        return {"worker": group.rank, "sha256": hashlib.sha256(fitted.ubj).hexdigest()}
    here = environment(options.git_commit, options.nthread)
    log.info("options: %s", options.recorded)
    with started(options) as run_id:
        with joined():
            loaded, parts, fitted, history, chosen, kept = _trained(options, group, run_id)
        folder = _folder(options.keep_dir, run_id)
        try:
            record = bundle.write(folder, run_id, loaded, parts, fitted, history, chosen, options, here)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            if error.errno in NO_ROOM:
                raise ResourceError(
                    f"No room in {folder.parent} for the files of the run ({error.strerror})."
                ) from None
            raise ResourceError(f"{folder} cannot be written ({error.strerror}).") from None
        log.info("%d rounds on %s: %s", fitted.rounds, loaded.name, record.metrics)
        try:
            published = publish(folder, run_id, options.mlflow_tracking_uri, retry_seconds=options.retry_seconds)
        except TrackingError as error:
            raise TrackingError(
                f"{error} The files of the run are kept: python -m training upload {folder.resolve()}"
            ) from error
        shutil.rmtree(folder)
        if kept:
            kept.clear()
    return asdict(published)


class _Trained(NamedTuple):
    """Data as they are recorded, their split, the booster, how its rounds were chosen, and where it was kept."""

    data: data.Data
    parts: split.Split
    fitted: fit.Fitted
    history: dict[str, list[float]]
    chosen: dict[str, float]
    kept: Checkpoints | None


def _trained(options: Options, group: Group, run_id: str = "") -> _Trained:
    """Load, split, search, choose the rounds and fit: alone, or as one of a group on its share of the rows."""
    alone = group.size == 1
    if alone:
        loaded = data.load(options.data_spec)
        parts = split.split(loaded, options.split_spec)
    else:
        loaded, parts = together.load(options.data_spec, options.split_spec, group)
    log.info("%d rows, %d columns, %s of %s", *loaded.frame.shape, loaded.task, loaded.target_name)
    params, rounds = fit.parameters(loaded, options.booster_params), options.rounds
    if options.checkpoints or not alone:
        params |= {"seed_per_iteration": True}  # recorded, as it changes the model: see training.boost
    chosen: dict[str, float] = {}
    history: dict[str, list[float]] = {}
    if options.trials and not alone:
        raise InputError("--trials (TRAINING_TRIALS): search with one worker, then train with several.")
    if options.trials:
        params = search(loaded, parts, params, options, run_id)
    if options.early_stopping_rounds or options.folds > 1:
        asked = loaded, parts, params, options.rounds, options.early_stopping_rounds, options.nthread
        found = fit.choose_rounds(*asked) if alone else rounds_of.choose_rounds(*asked, group)
        rounds, history = found.rounds, dict(found.history)
        chosen = {"validation_score": found.score, "validation_spread": found.spread}
    kept = None
    if alone and not options.checkpoints:
        fitted = fit.fit(loaded, parts.rest, params, rounds, options.nthread)
    else:
        kept = rounds_of.checkpoints(options, loaded, parts, params, rounds, group)
        fitted = rounds_of.fit(loaded, parts.rest, params, rounds, options.nthread, group, kept)
    if isinstance(loaded, together.SharedData) and isinstance(parts, together.SharedSplit):
        loaded, parts = together.gathered(loaded, parts, group)
    return _Trained(loaded, parts, fitted, history | fitted.history, chosen, kept)


def _folder(keep: Path, run_id: str) -> Path:
    """Return a new folder for the run's files: where they may stay, or a temporary one if nothing can be made there."""
    folder = keep / run_id
    try:
        folder.mkdir(parents=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="training-kept-"))
    return folder
