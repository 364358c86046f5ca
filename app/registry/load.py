"""Loading the model that the settings name: in this process, or by the worker that a pod has for other flavors."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.model import pyfunc, xgboost
from app.model.base import Model
from app.model.files import Provenance
from app.model.worker import WorkerOptions
from app.registry.obtain import Obtained, obtain
from app.registry.staged import read
from app.settings import Settings


def load_model(settings: Settings, deadline: float, patient_until: float = float("inf")) -> Obtained[Model]:
    """Return the loaded model.

    Args:
        settings: Settings of the service.
        deadline: Time by time.monotonic(), in seconds, at which the model must be loaded.
        patient_until: Time by time.monotonic(), in seconds, from which a copy of an earlier rollout is served.

    Raises:
        LoadError: The model cannot be obtained or loaded.
    """
    if settings.model_flavor == "xgboost":
        found: Obtained[Model] = obtain(settings, loader(settings), deadline, patient_until)
        return found
    sha256, compatibility = settings.model_sha256, settings.model_compatibility
    staged = read(settings)
    options = WorkerOptions(settings.worker_socket, settings.request_timeout_seconds, settings.worker_batch_rows)
    model = pyfunc.load(staged.folder, staged.provenance, sha256, compatibility, options=options, deadline=deadline)
    return Obtained(model, staged.origin, staged.folder, staged.copy)


def loader(settings: Settings) -> Callable[[Path, Provenance], Model]:
    """Return the function that loads an XGBoost model from a folder as the settings require."""
    return partial(
        xgboost.load,
        pinned=settings.model_sha256,
        compatibility=settings.model_compatibility,
        categories=settings.model_categories,
        unknown_category=settings.model_unknown_category,
    )
