"""Files of a model, wherever they are stored: a listing with sizes, and bounded streams of bytes."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.errors import LoadError
from app.model.files import Provenance

MOST_FILES = 10_000

Listing = tuple[dict[str, int], list[str]]  # size in bytes of each file in a folder, and names of its subfolders


class UnknownError(LoadError):
    """The source answers, and does not have what was asked for. Retryable: a training run may register it soon."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy, retryable=True)


class Artifacts(Protocol):
    """The files of one model."""

    def listing(self, folder: str) -> Listing | None:
        """Return what is directly in a folder of the model, "" for its root; None if the source cannot list it."""

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield the content of a file, with `size` bytes if that is known, and never more than `most`.

        Raises:
            UnknownError: The file does not exist.
            LoadError: The file cannot be read, or its size differs from what is allowed.
        """


@dataclass(frozen=True)
class Found:
    """What a source names now, before the files are downloaded."""

    provenance: Provenance  # without a version if the files alone determine it
    artifacts: Artifacts
    tags: Mapping[str, str] = field(default_factory=dict)  # of a registered version


def seconds_left(deadline: float) -> float:
    """Return the seconds until a time by time.monotonic().

    Raises:
        LoadError: It has passed.
    """
    if (seconds := deadline - time.monotonic()) <= 0:
        raise LoadError("the time limit for loading passed", "raise MODEL_SERVICE_LOAD_TIMEOUT_SECONDS", retryable=True)
    return seconds


def too_large() -> LoadError:
    """Return the error for a model whose files exceed the maximum size."""
    return LoadError(
        "its files exceed model.maxBytes (MODEL_SERVICE_MODEL_MAX_BYTES)", "raise the limit if the model is this large"
    )


def too_many() -> LoadError:
    """Return the error for a folder with more files than a model has."""
    return LoadError(
        f"its folder has more than {MOST_FILES} files and folders",
        "point model.uri at the folder that contains MLmodel, or log the model with fewer files",
    )


def bounded(pieces: Iterable[bytes], path: str, size: int | None, most: int) -> Iterator[bytes]:
    """Yield pieces of a file, and stop with an error as soon as they exceed its size.

    Args:
        pieces: Content of the file, in pieces of limited size.
        path: Path of the file, for messages.
        size: Size that was listed, or None if it is not known.
        most: Maximum size.

    Raises:
        LoadError: There are more bytes or fewer than listed, or more than `most`.
    """
    received, limit = 0, most if size is None else size
    for piece in pieces:
        received += len(piece)
        if received > limit:
            break
        yield piece
    if size is None and received > most:
        raise too_large()
    if size is not None and received != size:
        found = "more" if received > size else f"only {received}"
        raise LoadError(
            f"the download of {path} returned {found} instead of the {size} bytes that are listed",
            "if this persists, upload the model again, because its file was truncated or changed",
            retryable=True,
        )


def checked_name(name: str) -> str:
    """Return the name of a listed file or folder.

    Raises:
        LoadError: It is a path, or not a name.
    """
    if not name or name in (".", "..") or any(c in name for c in "/\\\0\n"):
        raise LoadError(
            f"a file named {name[:100]!r} is listed, which is not a plain file name",
            "find out who wrote it, and register a new version",
        )
    return name


def checked_size(name: str, given: Any) -> int:
    """Return the size of a listed file; MLflow lists an empty file without one, and large numbers as text.

    Raises:
        LoadError: It is not a number of bytes.
    """
    try:
        size = int(given or 0)
    except (TypeError, ValueError, OverflowError):
        size = -1
    if size < 0:
        raise LoadError(
            f"{name} is listed with the size {str(given)[:30]}, which is not a number of bytes",
            "upgrade the server that lists it, or find out who answers at its address",
        )
    return size
