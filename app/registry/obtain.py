"""Loading of the model that the settings name, by the module of its flavor."""

import importlib
import logging

from app.model.base import Model
from app.model.files import Provenance
from app.registry.client import RegistryClient
from app.registry.download import fetch
from app.settings import Settings
from app.uri import ModelFolder

log = logging.getLogger(__name__)


def obtain(settings: Settings, deadline: float) -> Model:
    """Return the model that the settings name; a registered model is downloaded first.

    Args:
        settings: Settings of the service.
        deadline: Time by time.monotonic(), in seconds, at which all calls to MLflow end.

    Raises:
        LoadError: The model cannot be downloaded or loaded.
    """
    source, whole = settings.source, settings.model_flavor == "pyfunc"
    if isinstance(source, ModelFolder):
        log.info("model found", extra={"folder": str(source.path)})
        folder, provenance = source.path, Provenance(settings.served_name, version="", uri=settings.model_uri)
    else:
        client = RegistryClient(settings, deadline)
        limit = settings.model_max_bytes
        folder, provenance = fetch(
            client, source, settings.served_name, settings.cache_dir, most_bytes=limit, whole=whole
        )
    # Only the module of the configured flavor is imported, because pyfunc's imports are expensive.
    flavor = importlib.import_module("app.model.pyfunc" if whole else "app.model.xgboost")
    extra = {} if whole else {"categories": settings.model_categories}
    loaded: Model = flavor.load(folder, provenance, settings.model_sha256, settings.model_compatibility, **extra)
    return loaded
