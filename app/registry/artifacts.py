"""Files of a registered version: through MLflow's artifact proxy, or read by the server with its own credentials."""

from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from app.errors import LoadError
from app.registry.client import NoRouteError, RegistryClient, UnknownError

PROXY = "start the MLflow server with --artifacts-destination and log the model again"
Listing = tuple[dict[str, int], list[str]]  # size in bytes of each file in a folder, and names of its subfolders


class Artifacts(Protocol):
    """The files of one registered version."""

    def listing(self, folder: str) -> Listing | None:
        """Return what is directly in a folder of the model, "" for its root; None if the server cannot list it."""

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        """Yield the content of a file, with `size` bytes if that is known, and never more than `most`."""


def artifacts_of(client: RegistryClient, found: dict[str, Any]) -> Artifacts:
    """Return the files of a version, given MLflow's record of it."""
    name, version = str(found["name"]), str(found["version"])
    answer = client.get("mlflow/model-versions/get-download-uri", name=name, version=version)
    uri = str(answer.get("artifact_uri", ""))
    url = urlsplit(uri)
    if url.scheme == "mlflow-artifacts" and url.path.strip("/"):
        return _Proxied(client, unquote(url.path).strip("/"))
    return _Unproxied(client, found, uri)


class _Proxied:
    """Files that the MLflow server proxies."""

    def __init__(self, client: RegistryClient, root: str) -> None:
        self._client = client
        self._root = root

    def listing(self, folder: str) -> Listing:
        path = f"{self._root}/{folder}".rstrip("/")
        return _entries(self._client.get("mlflow-artifacts/artifacts", path=path), "")

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        return self._client.proxied(f"{self._root}/{path}", most if size is None else size)


class _Unproxied:
    """Files in a storage that the MLflow server does not proxy. It hands out single files of a version all the same.

    MLflow lists the files of a logged model (MLflow 3) and those of a run, but not those of a version.
    """

    def __init__(self, client: RegistryClient, found: dict[str, Any], uri: str) -> None:
        self._client = client
        self._found = found
        self._uri = uri.rstrip("/")

    def listing(self, folder: str) -> Listing | None:
        run = str(self._found.get("run_id", ""))
        model = str(self._found.get("model_id", "")) or _logged_model(str(self._found.get("source", "")))
        try:
            if model:
                query = {"artifact_directory_path": folder} if folder else {}
                return _entries(
                    self._client.get(f"mlflow/logged-models/{model}/artifacts/directories", **query), folder
                )
            if run and (within := self._within(run)) is not None:
                path = f"{within}/{folder}".strip("/")
                return _entries(self._client.get("mlflow/artifacts/list", run_id=run, path=path), path)
        except (UnknownError, NoRouteError):
            return None
        return None

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        name, version = str(self._found["name"]), str(self._found["version"])
        try:
            yield from self._client.of_version(name, version, path, size, most)
        except NoRouteError:
            raise LoadError(
                f"its files are stored at {urlsplit(self._uri).scheme or 'an unknown location'}:, which the server at "
                "the tracking URI neither proxies nor hands out",
                PROXY,
            ) from None

    def _within(self, run: str) -> str | None:
        """Return the path of the model's folder among the artifacts of its run, or None if it is elsewhere."""
        info = self._client.get("mlflow/runs/get", run_id=run).get("run", {}).get("info", {})
        root = str(info.get("artifact_uri", "")).rstrip("/")
        return self._uri.removeprefix(f"{root}/") if root and self._uri.startswith(f"{root}/") else None


def _logged_model(source: str) -> str:
    """Return the ID of the logged model that a version was made from, or "" if it was made from something else."""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else ""


def _entries(answer: dict[str, Any], folder: str) -> Listing:
    """Return the entries of a listing, whose paths begin with the folder, as names within it."""
    sizes, folders = {}, []
    for entry in answer.get("files", []):
        path = str(entry.get("path", ""))
        name = path.removeprefix(f"{folder}/") if folder else path
        if not name or name in (".", "..") or any(c in name for c in "/\\\0\n"):
            raise LoadError(
                f"MLflow lists a file named {name[:100]!r}, which is not a plain file name",
                "find out who wrote it, and register a new version",
            )
        if entry.get("is_dir"):
            folders.append(name)
        else:
            sizes[name] = _size(name, entry.get("file_size"))
    return sizes, folders


def _size(name: str, given: Any) -> int:
    """Return the size of a file; MLflow lists an empty file without one, and large numbers as text."""
    try:
        size = int(given or 0)
    except (TypeError, ValueError, OverflowError):
        size = -1
    if size < 0:
        raise LoadError(
            f"MLflow lists {name} with the size {str(given)[:30]}, which is not a number of bytes",
            "upgrade the MLflow server, or find out who answers at its address",
        )
    return size
