"""Get the model that is to be served, by the module of its flavor."""

import importlib

from app.model import Model
from app.registry import fetch
from app.settings import Settings
from app.source import ModelFolder
from app.tracking import Tracking


def obtain(settings: Settings, deadline: float) -> Model:
    """Return the model that the settings name, downloaded first when it is a registered one.

    Args:
        settings: of the service.
        deadline: on the clock of time.monotonic, seconds; no call to MLflow outlasts it.

    Raises:
        LoadError: it cannot be had, or does not load.
    """
    source, whole = settings.source, settings.model_flavor == "pyfunc"
    # Imported only when asked for: whatever else a pod serves pays nothing for it.
    flavor = importlib.import_module("app.pyfunc" if whole else "app.model")
    if isinstance(source, ModelFolder):
        folder, provenance = source.path, flavor.folder_provenance(source, settings.model_uri, settings.served_name)
    else:
        tracking = Tracking(settings, deadline)
        folder, provenance = fetch(tracking, source, settings.served_name, settings.cache_dir, whole=whole)
    loaded: Model = flavor.load(folder, provenance, settings.model_sha256, settings.model_compatibility)
    return loaded
