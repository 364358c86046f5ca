"""The place of an inference log: a folder in object storage or on a disk, with the same client for all of them.

The environment provides credentials and endpoints, with the same variables as for models in object storage.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from app.errors import LoadError
from app.registry.object_storage import short, store_of
from app.uri import StoredFolder, source_of
from training.errors import InputError, ResourceError, TrainingError

if TYPE_CHECKING:  # obstore has this type in its stubs only
    from obstore import ObjectMeta

CALL_SECONDS = 60.0
FORMS = "s3://<bucket>/<path>, gs://<bucket>/<path>, az://<container>/<path> or file:///<folder>"

_STATUS = re.compile(r"status code: (\d{3})")
_REFUSALS = ("401", "403", "404")


class LogStore:
    """The files of an inference log, by their path below its URI.

    Args:
        uri: s3://, gs://, az:// or file://, or a local path.

    Raises:
        InputError: The URI is not valid, or the variables of its storage contradict each other.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._folder: Path | None = None
        self._store: ObjectStore
        if re.match(r"(s3|gs|az)://", uri):
            try:
                source = source_of(uri)
                assert isinstance(source, StoredFolder)  # noqa: S101 - by its scheme
                self._store = store_of(source, time.monotonic() + CALL_SECONDS)
            except ValueError:
                raise InputError(f"{uri} is not a valid address: use {FORMS}.") from None
            except LoadError as error:
                raise InputError(f"{uri}: {error}.") from None
            return
        url = urlsplit(uri)
        if url.scheme not in ("", "file") or url.netloc not in ("", "localhost"):
            raise InputError(f"{uri} is not supported: use {FORMS}.")
        self._folder = Path(unquote(url.path) if url.scheme else uri).absolute()

    def names(self, prefix: str = "", suffix: str = ".parquet") -> list[str]:
        """Return the paths of all files below a folder, in their order.

        Raises:
            TrainingError: The place is unreachable, or refuses.
        """
        found = [
            entry["path"]
            for entry in self._each(prefix)
            if entry["path"].endswith(suffix) and not entry["path"].rpartition("/")[2].startswith(".")
        ]
        return sorted(found)

    def put(self, name: str, content: bytes) -> None:
        """Write a file completely or not at all, and replace one of the same name.

        Raises:
            TrainingError: The place is unreachable, or refuses.
        """
        try:
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            obstore.put(self._opened(), name, content)
            if self._folder:
                _sync(self._folder / name)
        except (BaseError, OSError) as error:
            raise self._failure(name, "written", error) from None

    def get(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            TrainingError: It cannot be read.
        """
        try:
            return bytes(obstore.get(self._opened(), name).bytes())
        except (BaseError, OSError) as error:
            raise self._failure(name, "read", error) from None

    def delete(self, name: str) -> None:
        """Delete a file. A file that does not exist is not an error.

        Raises:
            TrainingError: The place is unreachable, or refuses.
        """
        try:
            obstore.delete(self._opened(), name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._failure(name, "deleted", error) from None

    def _each(self, prefix: str) -> Iterator["ObjectMeta"]:
        if self._folder and not self._folder.exists():
            return
        try:
            for page in obstore.list(self._opened(), prefix or None, chunk_size=1000):
                yield from page
        except (BaseError, OSError) as error:
            raise self._failure(prefix, "listed", error) from None

    def _opened(self) -> ObjectStore:
        if self._folder:
            return LocalStore(self._folder)
        return self._store

    def _failure(self, name: str, verb: str, error: Exception) -> TrainingError:
        sentence = f"{self.uri}/{name} cannot be {verb}: {short(error).rstrip('.')}."
        status = _STATUS.search(str(error))
        if "No space left" in str(error):
            return ResourceError(sentence)
        denied = isinstance(error, FileNotFoundError | PermissionError) or "Permission denied" in str(error)
        refused = bool(status and status[1] in _REFUSALS)
        return (InputError if denied or refused else TrainingError)(sentence)


def _sync(path: Path) -> None:
    """Write a file and its entry in the folder to the disk."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
