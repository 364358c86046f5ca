"""Copies of a registered model: what a pod keeps in its cache, and what it offers to the other pods of its release."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.errors import LoadError
from app.model.files import Provenance

MOST_FILES = 10_000
RECORD = "record.json"

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

    uri: str  # model.uri of the pod: what it asked the registry for
    revision: str  # ReplicaSet of the pod; "" outside Kubernetes
    confirmed: bool  # whether the registry named this version for this ReplicaSet
    provenance: Provenance
    files: dict[str, File]  # by path in the model's folder

    def __post_init__(self) -> None:
        if not self.provenance.version.isdecimal():
            raise ValueError("the version of a registered model is a number")
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
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` if the block ends without an error, and disappears otherwise.

    Raises:
        LoadError: The cache cannot be written to.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        # Only this process uses the cache, so files that an earlier container left in it can be removed.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except OSError as error:
        cause = f"the download cannot be written to {target.parent} ({error.strerror})"
        raise LoadError(cause, "set MODEL_SERVICE_CACHE_DIR to a writable folder with enough space") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
        name: Name of the model in the registry.
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
