"""Copies of a downloaded model: what a pod keeps in its cache, and what it offers to the other pods of its release."""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.artifacts import MOST_FILES

RECORD = "record.json"
PARTIAL = ".partial"
KEPT_VERSIONS = 3  # in the cache
STALE_SECONDS = 3600.0  # longer than any download

_VERSION = re.compile(r"[0-9]{1,19}|[0-9a-f]{12}")
_PLAIN_PATH = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[^\\\0\n/]+(/[^\\\0\n/]+)*")


@dataclass(frozen=True)
class File:
    """Size and SHA-256 digest of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Copy:
    """A complete model in the cache of a pod, as its files were when they were downloaded.

    Raises:
        ValueError: A path leads outside the model's folder, a number is out of range, or there are too many files.
    """

    uri: str  # model.uri of the pod: what it asked the source for
    revision: str  # ReplicaSet of the pod; "" outside Kubernetes
    confirmed: bool  # whether the source named this version for this ReplicaSet
    provenance: Provenance
    files: dict[str, File]  # by path in the model's folder

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.provenance.version):
            raise ValueError("a version is a number or the first 12 digits of the model's digest")
        if not 0 < len(self.files) <= MOST_FILES:
            raise ValueError(f"a model has 1 to {MOST_FILES} files")
        for path, file in self.files.items():
            if not _PLAIN_PATH.fullmatch(path) or file.bytes < 0:
                raise ValueError(f"{path[:100]!r} is not a file of a model")

    def to_json(self) -> bytes:
        """Return the description as a JSON document."""
        return _COPIES.dump_json(self)


_COPIES = TypeAdapter(Copy)


def read_copy(text: bytes) -> Copy | None:
    """Return the copy that a JSON document describes, or None if it does not describe one."""
    try:
        return _COPIES.validate_json(text)
    except ValidationError:
        return None


def folder_of(cache: Path, name: str, version: str) -> Path:
    """Return the folder of a version in the cache, which exists only once it is complete."""
    return cache / f"{name}-{version}"


@contextmanager
def new_folder(cache: Path) -> Iterator[Path]:
    """Yield an empty folder that disappears when the block ends, unless `keep` has moved it.

    Raises:
        LoadError: The cache cannot be written to.
    """
    partial = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _prune(cache)
        partial = Path(tempfile.mkdtemp(suffix=PARTIAL, dir=cache))  # several pods may share a volume
        partial.chmod(0o755)
        yield partial
    except OSError as error:
        cause = f"the download cannot be written to {cache} ({error.strerror})"
        raise LoadError(cause, "set MODEL_SERVICE_CACHE_DIR to a writable folder with enough space") from None
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)


def keep(partial: Path, target: Path) -> None:
    """Make a complete and verified folder the one of its version."""
    aside = partial.with_suffix(f".old{PARTIAL}")
    with suppress(FileNotFoundError):
        os.replace(target, aside)
    os.replace(partial, target)
    shutil.rmtree(aside, ignore_errors=True)


def _prune(cache: Path) -> None:
    """Remove old versions, and what downloads left that did not end."""
    with suppress(OSError):
        found = sorted((each for each in cache.iterdir() if each.is_dir()), key=lambda each: -each.stat().st_mtime)
        partial = [each for each in found if each.suffix == PARTIAL]
        complete = [each for each in found if "-" in each.name and each not in partial]
        stale = [each for each in partial if each.stat().st_mtime < time.time() - STALE_SECONDS]
        for each in (*complete[KEPT_VERSIONS:], *stale):
            shutil.rmtree(each, ignore_errors=True)


def remember(cache: Path, copy: Copy) -> None:
    """Write down which model is in the cache. A cache that cannot be written to is used no further."""
    new = cache / f"{RECORD}.new"
    with suppress(OSError):
        new.write_bytes(copy.to_json())
        os.replace(new, cache / RECORD)


def remembered(cache: Path, name: str) -> Copy | None:
    """Return the model that the cache holds, or None if it holds none or a file is not what it was.

    Args:
        cache: Folder of the downloads.
        name: Name of the model in its URI.
    """
    try:
        copy = read_copy((cache / RECORD).read_bytes())
        if copy is None:
            return None
        folder = folder_of(cache, name, copy.provenance.version)
        for path, file in copy.files.items():
            with (folder / path).open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                    return None
    except OSError:
        return None
    return copy
