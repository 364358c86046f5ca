"""Downloads of models into a verified local folder."""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from app.errors import LoadError
from app.model.contract import CONTRACT_FILE
from app.model.digest import DIGEST_TAG, EXAMPLE_FILE, FILES_TAG, MLMODEL_FILE, coverage, digest_of, files_of, refusal
from app.model.files import ModelFiles, Provenance, mlmodel_of, model_file_of, xgboost_flavor
from app.registry.artifacts import MOST_FILES, Artifacts, Found, UnknownError, too_large, too_many
from app.registry.copies import File, folder_of, keep, new_folder

LIST = "use object storage, or an MLflow server with --artifacts-destination"

log = logging.getLogger(__name__)


def fetch(
    found: Found, name: str, cache: Path, *, most_bytes: int, whole: bool = False
) -> tuple[Path, Provenance, dict[str, File]]:
    """Download a model below `cache`, and return its folder, its origin and its files by path.

    Args:
        found: What a source names.
        name: Name of the model in its URI.
        cache: Folder that only this process uses.
        most_bytes: Maximum size of all files together.
        whole: Whether to download all files, including subfolders, or only those of an XGBoost model.

    Raises:
        LoadError: The source is unreachable or rejects a call, or a file does not match its registered size or digest.
    """
    begin = time.monotonic()
    with new_folder(cache) as partial:  # becomes the model's folder only once it is complete and verified
        download = _Download(found.artifacts, partial, most_bytes)
        save = _save_everything if whole else _save_deciding
        save(found.artifacts, download)
        digests = download.digests
        checked = _check(digests, ModelFiles(partial).model_file, found.tags)
        files = {path: File((partial / path).stat().st_size, sha256) for path, sha256 in digests.items()}
        known = found.provenance
        provenance = replace(known, version=known.version or digest_of(digests)[:12])
        target = folder_of(cache, name, provenance.version)
        keep(partial, target)
    size = sum(file.bytes for file in files.values())
    facts = {"files": list(files), "bytes": size, "folder": str(target)}
    seconds = round(time.monotonic() - begin, 3)
    log.info("model downloaded", extra=facts | {"seconds": seconds, "digest": checked})
    return target, provenance, files


class _Download:
    """A download of files into a folder, with a limit for the size of all files together."""

    def __init__(self, artifacts: Artifacts, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}  # by path
        self._artifacts = artifacts
        self._left = most_bytes

    def save(self, path: str, size: int | None) -> None:
        """Download a file of `size` bytes, None if the size is not known.

        Raises:
            UnknownError: The file does not exist.
            LoadError: The limit is exceeded, or the download failed.
        """
        if size is not None and size > self._left:
            raise too_large()
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        pieces = self._artifacts.download(path, size, self._left)
        first = next(pieces, b"")  # before the file is created, because it may not exist
        with target.open("xb") as file:
            for piece in chain([first], pieces):
                digest.update(piece)
                self._left -= file.write(piece)
        self.digests[path] = digest.hexdigest()


def _save_deciding(artifacts: Artifacts, download: _Download) -> None:
    """Download the files of an XGBoost model that decide an answer."""
    listed = artifacts.listing("")
    sizes = None if listed is None else listed[0]

    def save(name: str) -> bool:
        if sizes is not None and name not in sizes:
            return False
        try:
            download.save(name, None if sizes is None else sizes[name])
        except UnknownError:
            if sizes is not None:
                raise
            return False
        return True

    if not save(MLMODEL_FILE):
        raise _missing(MLMODEL_FILE)
    if not save(model_file := model_file_of(xgboost_flavor(mlmodel_of(ModelFiles(download.folder))))):
        raise _missing(model_file)
    save(EXAMPLE_FILE)
    save(CONTRACT_FILE)


def _save_everything(artifacts: Artifacts, download: _Download) -> None:
    """Download all files in the model's folder."""
    folders, files = [""], 0
    while folders:
        within = folders.pop()
        if (listed := artifacts.listing(within)) is None:
            raise LoadError("its source does not list the files of a model, which a pyfunc model needs", LIST)
        sizes, below = listed
        files += len(sizes)
        folders += [f"{within}/{name}".lstrip("/") for name in below]
        if files + len(folders) > MOST_FILES:
            raise too_many()
        for name, size in sizes.items():
            download.save(f"{within}/{name}".lstrip("/"), size)
    if MLMODEL_FILE not in download.digests:
        raise _missing(MLMODEL_FILE)


def _missing(file: str) -> LoadError:
    remedy = "log it with mlflow.<flavor>.log_model, and find out who removed the file"
    return LoadError(f"its folder does not contain {file}", remedy)


def _check(digests: dict[str, str], model_file: str, tags: Mapping[str, str]) -> str:
    """Compare the files with the tags of the version, and return what the registered digest covers.

    Raises:
        LoadError: They differ from the registered digest.
    """
    registered = tags.get(DIGEST_TAG, "")
    if not registered:
        return "none registered"
    if not (covered := coverage(digests, model_file, registered)):
        raise refusal(digests, registered, "registered", files_of(tags.get(FILES_TAG, "")))
    return f"as registered: {', '.join(covered) if len(covered) < len(digests) else 'all files'}"
