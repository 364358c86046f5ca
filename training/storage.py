"""Open what a URI names: a local path, `s3://bucket/key`, or for reading `http(s)://…`.

S3 is Arrow's own client: credentials, region and AWS_ENDPOINT_URL come from the environment by AWS' names.
"""

import errno
import os
import shutil
import tempfile
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem

from training.errors import InputError, ResourceError, TrainingError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HTTP_SECONDS = 60  # of silence


@dataclass(frozen=True)
class Place:
    """A file or folder of a file system."""

    filesystem: FileSystem
    path: str
    uri: str

    @property
    def is_folder(self) -> bool:
        """Whether there is a folder.

        Raises:
            InputError: it may not be read.
            TrainingError: it cannot be looked at now.
        """
        try:
            return bool(self.filesystem.get_file_info(self.path).type == FileType.Directory)
        except OSError as error:
            raise failure(self.uri, "read", error) from None

    def files(self, *suffixes: str) -> list[FileInfo]:
        """Return the file itself, or the folder's files with these endings in the order of their names.

        Hidden files and folders, whose names begin with `.` or `_`, are left out, as every reader of Parquet does.

        Raises:
            InputError: there is nothing, or it may not be read.
            TrainingError: it cannot be read now.
        """
        try:
            found = self.filesystem.get_file_info(self.path)
            if found.type == FileType.File:
                return [found]
            if found.type == FileType.NotFound:
                raise InputError(f"{self.uri} does not exist: correct the path, or the permission to see it.")
            inside = self.filesystem.get_file_info(FileSelector(self.path, recursive=True))
        except OSError as error:
            raise failure(self.uri, "read", error) from None
        skip = len(self.path.rstrip("/")) + 1
        return sorted(
            (
                each
                for each in inside
                if each.type == FileType.File
                and each.path.lower().endswith(suffixes)
                and not any(part.startswith((".", "_")) for part in each.path[skip:].split("/"))
            ),
            key=lambda each: str(each.path),
        )


def place(uri: str) -> Place:
    """Return where a URI leads; nothing is looked at yet.

    Raises:
        InputError: its scheme is not known.
    """
    url = urlsplit(uri)
    if url.scheme == "s3":
        return Place(_s3(), f"{url.netloc}{url.path}".rstrip("/"), uri.rstrip("/"))
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return Place(LocalFileSystem(), os.path.abspath(url.path), url.path)
    if "://" in uri:
        raise InputError(f"{url.scheme}:// is not known here: give a local path, s3:// or http(s)://.")
    return Place(LocalFileSystem(), os.path.abspath(uri), uri)


def download(uri: str, folder: Path) -> Place:
    """Copy what an http(s) address answers into a folder, as Parquet is read from its end.

    Raises:
        TrainingError: it cannot be had.
    """
    target = folder / (Path(urlsplit(uri).path).name or "data")
    try:
        with urllib.request.urlopen(uri, timeout=_HTTP_SECONDS) as answer, target.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise failure(uri, "read", error) from None
    return Place(LocalFileSystem(), str(target), uri)


def write(where: Place, name: str, content: bytes) -> None:
    """Write a file below a folder: a reader finds the whole of it or nothing, whenever this process is killed.

    On a disk by a hidden file and a rename, both made durable; in S3 by one PUT, or one upload in parts that appears
    when it is complete.

    Raises:
        TrainingError: it cannot be written.
    """
    target = f"{where.path}/{name}"
    try:
        if not isinstance(where.filesystem, LocalFileSystem):
            with where.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        Path(where.path).mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=f".{name}.", dir=where.path)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise
        folder = os.open(where.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise failure(f"{where.uri}/{name}", "written", error) from None


def read(where: Place, name: str) -> bytes | None:
    """Return a file of a folder, None when there is none.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        with where.filesystem.open_input_stream(f"{where.path}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(f"{where.uri}/{name}", "read", error) from None


def failure(uri: str, verb: str, error: OSError) -> TrainingError:
    """Say what an error of a file system means: it may go away by itself, or somebody has to change something."""
    text = " ".join(str(error.strerror or error).split())
    sentence = f"{uri} cannot be {verb}: {text}."
    if error.errno in NO_ROOM:
        return ResourceError(sentence)
    wrong = isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | FileExistsError)
    return (InputError if wrong or "ACCESS_DENIED" in text else TrainingError)(sentence)


def _s3() -> S3FileSystem:
    """Small files are sent in one PUT; MLflow's name for another endpoint is known too."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    authority = os.environ.get("AWS_CA_BUNDLE")
    options = {"tls_ca_file_path": authority} if authority else {}
    return S3FileSystem(endpoint_override=endpoint, allow_delayed_open=True, **options)
