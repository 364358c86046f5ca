"""Files at a URI: a local path, `s3://bucket/key` or, to read, `http(s)://…`.

S3 uses Arrow's client. The environment provides credentials, region and endpoint with the standard AWS_* variables.
"""

import errno
import os
import re
import tempfile
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem

from training.errors import InputError, ResourceError, TrainingError
from training.progress import bar

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AWS_ERROR = "AWS Error"
# Errors of S3 that a retry cannot change.
_AWS_REFUSALS = (
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_BUCKET", "NO_SUCH_KEY",
)  # fmt: skip
_HTTP_SECONDS = 60  # without data
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Place:
    """A file or a folder in a file system."""

    filesystem: FileSystem
    path: str
    uri: str

    @property
    def is_folder(self) -> bool:
        """Whether the place is an existing folder.

        Raises:
            InputError: There is no permission to read it.
            TrainingError: The place is unreachable.
        """
        try:
            return bool(self.filesystem.get_file_info(self.path).type == FileType.Directory)
        except OSError as error:
            raise failure(self.uri, "read", error) from None

    def files(self, *suffixes: str) -> list[FileInfo]:
        """Return the file itself, or the files of the folder with these suffixes in the order of their names.

        Files and folders whose names begin with `.` or `_` are left out, as in every reader of Parquet.

        Raises:
            InputError: The place does not exist, or there is no permission to read it.
            TrainingError: The place is unreachable.
        """
        try:
            found = self.filesystem.get_file_info(self.path)
            if found.type == FileType.File:
                return [found]
            if found.type == FileType.NotFound:
                raise InputError(f"{self.uri} does not exist: correct the path or the permissions.")
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
    """Return the place of a URI, without accessing it.

    Raises:
        InputError: The URI is not valid, or its scheme is not supported.
    """
    url = parsed(uri)
    if url.scheme == "s3":
        return Place(_s3(), f"{url.netloc}{url.path}".rstrip("/"), uri.rstrip("/"))
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return Place(LocalFileSystem(), os.path.abspath(url.path), url.path)
    if "://" in uri:
        raise InputError(f"{url.scheme}:// is not supported: use a local path, s3:// or http(s)://.")
    return Place(LocalFileSystem(), os.path.abspath(uri), uri)


def parsed(uri: str) -> SplitResult:
    """Return the parts of a URI.

    Raises:
        InputError: The URI is not valid.
    """
    public = uri.partition("?")[0].rpartition("@")[2]  # without a signature or a password
    try:
        url = urlsplit(uri)
        _ = url.port
    except ValueError as error:
        raise InputError(f"{public!r} is not a valid path or address: {error}.") from None
    if "\0" in uri or (url.scheme in ("http", "https") and not re.fullmatch(r"[!-~]+", uri)):
        raise InputError(f"{public!r} is not a valid path or address: percent-encode blanks and special characters.")
    if url.scheme == "s3" and not url.netloc:
        raise InputError(f"{uri} has no bucket: use s3://<bucket>/<key>.")
    return url


def download(uri: str, folder: Path) -> Place:
    """Copy the file of an http(s) address into a folder, because Parquet is read from its end.

    Raises:
        TrainingError: The file cannot be downloaded.
    """
    target = folder / (Path(parsed(uri).path).name or "data")
    try:
        with target.open("wb") as file:
            copy(uri, file)
    except OSError as error:
        raise failure(uri, "read", error) from None
    return Place(LocalFileSystem(), str(target), uri)


def copy(uri: str, target: IO[bytes]) -> None:
    """Copy the file of an http(s):// or s3:// address.

    Raises:
        OSError: The file cannot be read or written, or ends early.
    """
    opened: Any
    if urlsplit(uri).scheme == "s3":
        where = place(uri)
        size = where.filesystem.get_file_info(where.path).size or 0
        opened = where.filesystem.open_input_stream(where.path, compression=None)
    else:
        opened = urllib.request.urlopen(uri, timeout=_HTTP_SECONDS)  # noqa: S310 - callers check the scheme
        size = int(opened.headers.get("Content-Length") or 0)
    with opened, bar("download", size or None, "B") as progress:
        while chunk := opened.read(_CHUNK):
            target.write(chunk)
            progress.advance(len(chunk))
    target.flush()
    if size and target.tell() != size:
        raise OSError(errno.EIO, f"it ended after {target.tell()} of {size} bytes")


def write(where: Place, name: str, content: bytes) -> None:
    """Write a file to a folder atomically: a reader finds the complete file or none, even if this process is killed.

    On a disk, a hidden file is synced and renamed. In S3, one PUT or one multipart upload creates the object.

    Raises:
        TrainingError: The file cannot be written.
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
    """Return the content of a file in a folder, or None if it does not exist.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        with where.filesystem.open_input_stream(f"{where.path}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(f"{where.uri}/{name}", "read", error) from None


def failure(uri: str, verb: str, error: OSError) -> TrainingError:
    """Return the error of a command for one of a file system, by whether a retry can help.

    pyarrow reports a damaged file as an error without a number, and so does its S3 client for every error of a server.
    """
    cause = reason if isinstance(reason := getattr(error, "reason", None), OSError) else error  # of urllib
    text = " ".join(str(cause.strerror or cause).split()).rstrip(".")
    sentence = f"{uri} cannot be {verb}: {text}."
    if cause.errno in NO_ROOM:
        return ResourceError(sentence)
    wrong = isinstance(cause, FileNotFoundError | PermissionError | NotADirectoryError | FileExistsError)
    wrong = wrong or cause.errno == errno.ENAMETOOLONG
    damaged = cause.errno is None and not isinstance(cause, TimeoutError | ConnectionError) and _AWS_ERROR not in text
    refused = any(f"{_AWS_ERROR} {code} " in text for code in _AWS_REFUSALS)
    return (InputError if wrong or damaged or refused else TrainingError)(sentence)


def _s3() -> S3FileSystem:
    """Return the client, which sends small files in one PUT. MLflow's variable for the endpoint is also read."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    authority = os.environ.get("AWS_CA_BUNDLE")
    options = {"tls_ca_file_path": authority} if authority else {}
    return S3FileSystem(endpoint_override=endpoint, allow_delayed_open=True, **options)
