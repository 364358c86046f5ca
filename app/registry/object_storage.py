"""Models in object storage: S3, Google Cloud Storage and Azure, with the credentials of their own clients."""

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import LoadError
from app.registry.artifacts import (
    MOST_FILES,
    Listing,
    UnknownError,
    bounded,
    checked_name,
    checked_size,
    seconds_left,
    too_many,
)
from app.uri import StoredFolder

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Variables that name a server other than that of the cloud, by scheme. Only they can ask for plain HTTP.
ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT",),
}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the ServiceAccount",
    "gs": "GOOGLE_SERVICE_ACCOUNT, or the identity of the ServiceAccount",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the identity of the ServiceAccount",
}
SECRETS = {  # variables with a static secret, by scheme
    "s3": ("AWS_SECRET_ACCESS_KEY",),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_SAS_KEY"),
}
_STATUS = re.compile(r"status code: (\d{3})")  # obstore's exceptions have no attribute for it
_SAID = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_PIECE = 1 << 20


class StoredArtifacts:
    """The files of a model in object storage.

    Args:
        source: The folder.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.
    """

    def __init__(self, source: StoredFolder, deadline: float) -> None:
        self._source = source
        self._deadline = deadline
        self._store = store_of(source, deadline)
        self._sizes: dict[str, int] | None = None

    def listing(self, folder: str) -> Listing:
        """Return what is directly in a folder. All of it is listed once, because storages know no folders."""
        if self._sizes is None:
            self._sizes = self._listed()
        sizes: dict[str, int] = {}
        folders: dict[str, None] = {}
        for path, size in self._sizes.items():
            if not path.startswith(f"{folder}/" if folder else ""):
                continue
            name, below, _ = path.removeprefix(f"{folder}/" if folder else "").partition("/")
            if below:
                folders[checked_name(name)] = None
            else:
                sizes[checked_name(name)] = size
        return sizes, list(folders)

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        import obstore

        try:
            answer = obstore.get(self._store, path)
            pieces = (bytes(piece) for piece in answer.stream(min_chunk_size=_PIECE))
            yield from bounded(self._in_time(pieces), path, size, most)
        except (obstore.exceptions.BaseError, OSError) as error:  # OSError: a file does not exist
            raise self._failure(error) from None

    def _listed(self) -> dict[str, int]:
        import obstore

        sizes: dict[str, int] = {}
        try:
            for page in obstore.list(self._store, chunk_size=1000):
                for entry in page:
                    sizes[entry["path"]] = checked_size(entry["path"], entry["size"])
                if len(sizes) > MOST_FILES:
                    raise too_many()
                seconds_left(self._deadline)
        except (obstore.exceptions.BaseError, OSError) as error:  # OSError: a file does not exist
            raise self._failure(error) from None
        if not sizes:
            raise UnknownError(
                "the storage has no object below this path", "upload the folder that MLflow wrote, or correct the URI"
            )
        return sizes

    def _in_time(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            seconds_left(self._deadline)
            yield piece

    def _failure(self, error: Exception) -> LoadError:
        """Return the error for a call that failed."""
        said, scheme = short(error), self._source.scheme
        status = _STATUS.search(str(error))
        if status and status[1] == "404":
            return UnknownError(
                f"the storage does not have the bucket or the file ({said})", "correct the URI, or upload the model"
            )
        if status and status[1] in ("401", "403"):
            return LoadError(
                f"the storage denies access ({said})",
                f"check {_CREDENTIALS[scheme]}, and that it may list and read {self._source.bucket}",
            )
        where = " or ".join(ENDPOINTS[scheme])
        return LoadError(
            f"the storage does not answer as expected ({said})",
            f"check the credentials ({_CREDENTIALS[scheme]}), the address in {where}, and that no network policy "
            "blocks the connection",
            retryable=True,
        )


def store_of(source: StoredFolder, deadline: float) -> "ObjectStore":
    """Return a client of the storage, which reads its credentials from the environment or the cloud's identity."""
    left = seconds_left(deadline)
    from obstore import store  # 15 MB that only these sources need

    kinds: dict[str, Any] = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    endpoint = next(filter(None, map(os.environ.get, ENDPOINTS[source.scheme])), "")
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=left),  # of a whole download
        "allow_http": endpoint.startswith("http://"),
    }
    if authorities := os.environ.get("SSL_CERT_FILE"):
        options["root_certificate"] = Path(authorities).read_bytes()
    retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=min(10.0, left))}
    try:
        made: ObjectStore = kinds[source.scheme](
            source.bucket, prefix=source.path or None, client_options=options, retry_config=retries
        )
    except Exception as error:  # obstore documents no type for settings that contradict each other
        raise LoadError(
            f"its storage cannot be used with these variables ({short(error)})", f"set {_CREDENTIALS[source.scheme]}"
        ) from None
    return made


def short(error: Exception) -> str:
    """Return what the storage says, or else the message without the queries of addresses, which may be signed."""
    text = str(error).partition("Debug source:")[0]
    if said := _SAID.search(text):
        return said[1].strip()[:300]
    return re.sub(r"\?[^\s\"')]+", "", " ".join(text.split()))[:300]
