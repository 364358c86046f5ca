"""Obtaining the model that the settings name, by the module of its flavor: from a folder, a registry or a copy.

All pods of a ReplicaSet serve one version: a pod takes it from its own cache or from another pod of its ReplicaSet
before it asks the registry what an alias names now. Those of other ReplicaSets are asked
only while the registry is unreachable.
"""

import importlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app.errors import LoadError
from app.model.base import Model
from app.model.files import Provenance
from app.registry.client import RegistryClient, UnknownError
from app.registry.copies import Copy, folder_of, remember, remembered
from app.registry.download import fetch
from app.registry.peers import Peers
from app.registry.resolve import resolve
from app.settings import Settings
from app.uri import ModelFolder, RegisteredModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Obtained:
    """A loaded model and its origin."""

    model: Model
    origin: Literal["folder", "registry", "peer", "cache"]
    folder: Path
    copy: Copy | None = None  # None: the model is not from a registry

    @property
    def confirmed(self) -> bool:
        """Whether the source named this version for this ReplicaSet."""
        return self.copy is None or self.copy.confirmed


def obtain(settings: Settings, deadline: float, patient_until: float = float("inf")) -> Obtained:
    """Return the model that the settings name.

    Args:
        settings: Settings of the service.
        deadline: Time by time.monotonic(), in seconds, at which all calls to MLflow end.
        patient_until: Time by time.monotonic(), in seconds, from which a copy of an earlier ReplicaSet will do if the
            registry does not answer.

    Raises:
        LoadError: The model cannot be obtained or loaded.
    """
    source = settings.source
    if isinstance(source, ModelFolder):
        log.info("model found", extra={"folder": str(source.path)})
        provenance = Provenance(settings.served_name, version="", uri=settings.model_uri)
        return Obtained(_load(settings, source.path, provenance), "folder", source.path)
    cached, peers = remembered(settings.cache_dir, source.name), Peers(settings, deadline)
    if settings.revision and (found := next(_copies(settings, source, cached, peers, settings.revision), None)):
        return found
    try:
        return _from_registry(settings, source, deadline)
    except UnknownError:  # the registry answers
        raise
    except LoadError as error:
        if not error.retryable or time.monotonic() < patient_until:
            raise
        if found := next(_copies(settings, source, cached, peers, ""), None):
            log.warning("an earlier copy of the model is served, because the registry is unreachable: %s", error)
            return found
        raise


def confirm(settings: Settings, obtained: Obtained, deadline: float) -> Obtained:
    """Return the same model, confirmed if the registry names its version now.

    Raises:
        LoadError: The registry does not answer.
    """
    source, copy = settings.source, obtained.copy
    if copy is None or not isinstance(source, RegisteredModel):
        return obtained
    named = str(resolve(RegistryClient(settings, deadline), source)["version"])
    if named != copy.provenance.version:
        log.warning("%s is version %s now; restart the rollout to serve it", settings.model_uri, named)
        return obtained
    copy = replace(copy, confirmed=True)
    remember(settings.cache_dir, copy)
    return replace(obtained, copy=copy)


def _from_registry(settings: Settings, source: RegisteredModel, deadline: float) -> Obtained:
    client, whole = RegistryClient(settings, deadline), settings.model_flavor == "pyfunc"
    name, cache, most_bytes = settings.served_name, settings.cache_dir, settings.model_max_bytes
    folder, provenance, files = fetch(client, source, name, cache, most_bytes=most_bytes, whole=whole)
    model = _load(settings, folder, provenance)
    copy = Copy(settings.model_uri, settings.revision, True, provenance, files)
    remember(cache, copy)
    return Obtained(model, "registry", folder, copy)


def _copies(
    settings: Settings, source: RegisteredModel, cached: Copy | None, peers: Peers, revision: str
) -> Iterator[Obtained]:
    """Yield the loaded copies of the same URI, and of one ReplicaSet if `revision` names one, that can be loaded."""

    def fits(copy: Copy) -> bool:
        return copy.uri == settings.model_uri and revision in ("", copy.revision)

    def served(copy: Copy, folder: Path, origin: Literal["peer", "cache"]) -> Obtained:
        confirmed = copy.confirmed and copy.revision == settings.revision
        provenance = replace(copy.provenance, name=settings.served_name)
        ours = Copy(copy.uri, settings.revision, confirmed, provenance, copy.files)
        model = _load(settings, folder, provenance)
        remember(settings.cache_dir, ours)
        return Obtained(model, origin, folder, ours)

    if cached and fits(cached):
        try:
            yield served(cached, folder_of(settings.cache_dir, source.name, cached.provenance.version), "cache")
        except LoadError as error:
            log.warning("the model in the cache cannot be loaded: %s", error)
    if settings.model_flavor == "pyfunc" and not settings.model_sha256:
        return  # it holds code, which only a registry or a pinned digest vouches for
    for address, copy in peers.copies():
        if fits(copy):
            begin = time.monotonic()
            try:
                folder = peers.fetch(address, copy, source.name, settings.cache_dir, settings.model_max_bytes)
                seconds = round(time.monotonic() - begin, 3)
                facts = {"peer": address, "version": copy.provenance.version, "seconds": seconds}
                log.info("model copied from a pod of this release", extra=facts)
                yield served(copy, folder, "peer")
            except LoadError as error:
                log.warning("the model of a pod of this release is not used: %s", error, extra={"peer": address})


def _load(settings: Settings, folder: Path, provenance: Provenance) -> Model:
    whole = settings.model_flavor == "pyfunc"
    # Only the module of the configured flavor is imported, because pyfunc's imports are expensive.
    flavor = importlib.import_module("app.model.pyfunc" if whole else "app.model.xgboost")
    own = {"categories": settings.model_categories, "unknown_category": settings.model_unknown_category}
    extra: dict[str, Any] = {} if whole else own
    model: Model = flavor.load(folder, provenance, settings.model_sha256, settings.model_compatibility, **extra)
    return model
