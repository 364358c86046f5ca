"""A version that may replace the served one: its download, and the checks before it is served."""

import os
import time
from contextlib import suppress
from pathlib import Path

from app.errors import LoadError
from app.following.gate import RefusedError, compare, try_loading
from app.loaded import Lasting, Loaded, equip
from app.model.digest import METADATA_FILES, DigestError, digest_of
from app.registry.copies import Copy
from app.registry.load import loader
from app.registry.obtain import Obtained, download
from app.settings import Settings
from app.uri import RegisteredModel


def fetched(settings: Settings, source: RegisteredModel, version: str, served: Loaded) -> tuple[Copy, Path, str]:
    """Download a version next to the served one, and return it, its folder and its digest.

    Args:
        settings: Settings of the service.
        source: Model and alias.
        version: Version that the alias names.
        served: Model that is served until now.

    Raises:
        RefusedError: The files are not those that were registered.
        LoadError: The files cannot be obtained now.
    """
    with suppress(OSError):
        os.utime(served.obtained.folder)  # the cache removes the folders that were not used for longest
    try:
        folder, provenance, files = download(settings, source, time.monotonic() + settings.load_timeout_seconds)
    except DigestError as error:
        raise RefusedError("digest", str(error)) from None
    if provenance.version != version:
        raise LoadError(f"the alias has moved to version {provenance.version}", "it is tried next", retryable=True)
    sha256 = digest_of({path: file.sha256 for path, file in files.items()})
    return Copy(settings.model_uri, settings.revision, True, provenance, files), folder, sha256


def loaded(settings: Settings, copy: Copy, folder: Path, served: Loaded, lasting: Lasting) -> Loaded:
    """Return the model of a downloaded version, ready to be served.

    Args:
        settings: Settings of the service.
        copy: Description of the version.
        folder: Folder of the version.
        served: Model that is served until now, whose clients must not break.
        lasting: What outlives a version.

    Raises:
        RefusedError: A check failed.
        LoadError: A check could not be made.
    """
    begin = time.monotonic()
    (name,) = (path for path in copy.files if path not in METADATA_FILES)
    try_loading(settings, folder / name, copy.provenance)
    try:
        model = loader(settings)(folder, copy.provenance)
        compare(served.model, model)
        return equip(settings, Obtained(model, "source", folder, copy), begin, lasting)
    except LoadError as error:
        raise RefusedError("settings", str(error)) from None
