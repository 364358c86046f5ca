"""Obtaining the model that the settings name: from a folder, its source or a copy.

All pods of a ReplicaSet serve one version: a pod takes it from its own cache or from another pod of its ReplicaSet
before it asks the source what the URI names now. Those of other ReplicaSets are asked only while the source is
unreachable, and by pods that follow an alias, which start with the model that is served now.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.artifacts import UnknownError
from app.registry.client import RegistryClient
from app.registry.copies import Copy, File, folder_of, remember, remembered
from app.registry.download import fetch
from app.registry.peers import Peers
from app.registry.resolve import resolve
from app.registry.sources import find
from app.settings import Settings
from app.uri import ModelFolder, RegisteredModel, Remote

log = logging.getLogger(__name__)


Origin = Literal["folder", "source", "peer", "cache"]


@dataclass(frozen=True)
class Obtained[T]:
    """A loaded or checked model and its origin."""

    model: T
    origin: Origin
    folder: Path
    copy: Copy | None = None  # None: the model is in a folder and was not downloaded

    @property
    def confirmed(self) -> bool:
        """Whether the source named this version for this ReplicaSet."""
        return self.copy is None or self.copy.confirmed


def obtain[T](
    settings: Settings,
    load: Callable[[Path, Provenance], T],
    deadline: float,
    patient_until: float = float("inf"),
) -> Obtained[T]:
    """Return the model that the settings name.

    Args:
        settings: Settings of the service.
        load: Loads or checks the model in a folder; raises LoadError if it cannot.
        deadline: Time by time.monotonic(), in seconds, at which all calls to the source end.
        patient_until: Time by time.monotonic(), in seconds, from which a copy of an earlier ReplicaSet will do if the
            source does not answer.

    Raises:
        LoadError: The model cannot be obtained or loaded.
    """
    source = settings.source
    if isinstance(source, ModelFolder):
        log.info("model found", extra={"folder": str(source.path)})
        _refuse_empty(source.path)
        provenance = Provenance(settings.served_name, version="", uri=settings.model_uri)
        return Obtained(load(source.path, provenance), "folder", source.path)
    cached, peers = remembered(settings.cache_dir, source.name), Peers(settings, deadline)

    def copies(revision: str) -> Iterator[Obtained[T]]:
        return _copies(settings, load, source, cached, peers, revision)

    if settings.follows:  # changes of the version go through app.following, whatever the ReplicaSet
        if found := next(copies(""), None):
            return found
    elif settings.revision and (found := next(copies(settings.revision), None)):
        return found
    try:
        return _from_source(settings, load, source, deadline)
    except UnknownError:  # the source answers
        raise
    except LoadError as error:
        if not error.retryable or time.monotonic() < patient_until:
            raise
        if found := next(copies(""), None):
            log.warning("an earlier copy of the model is served, because its source is unreachable: %s", error)
            return found
        raise


def confirm[T](settings: Settings, obtained: Obtained[T], deadline: float) -> Obtained[T]:
    """Return the same model, confirmed if the source names its version now.

    Raises:
        LoadError: The source does not answer.
    """
    source, copy = settings.source, obtained.copy
    if copy is None or isinstance(source, ModelFolder):
        return obtained
    if isinstance(source, RegisteredModel):
        named = str(resolve(RegistryClient(settings, deadline), source)["version"])
    else:  # the files determine the version
        named = download(settings, source, deadline)[1].version
    if named != copy.provenance.version:
        log.warning("%s is version %s now; restart the rollout to serve it", settings.model_uri, named)
        return obtained
    copy = replace(copy, confirmed=True)
    remember(settings.cache_dir, copy)
    return replace(obtained, copy=copy)


def _from_source[T](
    settings: Settings, load: Callable[[Path, Provenance], T], source: Remote, deadline: float
) -> Obtained[T]:
    folder, provenance, files = download(settings, source, deadline)
    model = load(folder, provenance)
    copy = Copy(settings.model_uri, settings.revision, True, provenance, files)
    remember(settings.cache_dir, copy)
    return Obtained(model, "source", folder, copy)


def download(settings: Settings, source: Remote, deadline: float) -> tuple[Path, Provenance, dict[str, File]]:
    """Download what the source names now, and return its folder, its origin and its files by path.

    Args:
        settings: Settings of the service.
        source: Origin of the model.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.

    Raises:
        DigestError: The files are not those that were registered.
        LoadError: The source is unreachable or rejects a call, or a file is incomplete.
    """
    found = find(settings, source, deadline)
    known = found.provenance
    log.info("model resolved", extra={"version": known.version, "alias": known.alias, "run_id": known.run_id})
    whole, most_bytes = settings.model_flavor == "pyfunc", settings.model_max_bytes
    return fetch(found, source.name, settings.cache_dir, most_bytes=most_bytes, whole=whole)


def _refuse_empty(folder: Path) -> None:
    """Explain an empty folder, which container runtimes mount instead of an image that they cannot mount."""
    with suppress(OSError):
        if not any(folder.iterdir()):
            raise LoadError(
                f"{folder} is empty",
                "put the files that MLflow wrote there; with oci://, this node's container runtime does not support "
                "image volumes (containerd 2.1 or CRI-O 1.31 are needed)",
            )


def _copies[T](
    settings: Settings,
    load: Callable[[Path, Provenance], T],
    source: Remote,
    cached: Copy | None,
    peers: Peers,
    revision: str,
) -> Iterator[Obtained[T]]:
    """Yield the loaded copies of the same URI, and of one ReplicaSet if `revision` names one, that can be loaded."""

    def fits(copy: Copy) -> bool:
        return copy.uri == settings.model_uri and revision in ("", copy.revision)

    def served(copy: Copy, folder: Path, origin: Origin) -> Obtained[T]:
        confirmed = copy.confirmed and copy.revision == settings.revision
        provenance = replace(copy.provenance, name=settings.served_name)
        ours = Copy(copy.uri, settings.revision, confirmed, provenance, copy.files)
        model = load(folder, provenance)
        remember(settings.cache_dir, ours)
        return Obtained(model, origin, folder, ours)

    if cached and fits(cached):
        try:
            yield served(cached, folder_of(settings.cache_dir, source.name, cached.provenance.version), "cache")
        except LoadError as error:
            log.warning("the model in the cache cannot be loaded: %s", error)
    if settings.model_flavor == "pyfunc" and not settings.model_sha256:
        return  # it holds code, which only its source or a pinned digest vouches for
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
