"""Files that an MLflow server hands out: through its artifact proxy, or read with the server's own credentials."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from app.errors import LoadError
from app.registry.artifacts import Artifacts, Listing, UnknownError, checked_name, checked_size
from app.registry.client import NoRouteError, RegistryClient

PROXY = "start the MLflow server with --artifacts-destination and log the model again"


def of_version(client: RegistryClient, found: dict[str, Any]) -> Artifacts:
    """Return the files of a registered version, given MLflow's record of it."""
    query = {"name": str(found["name"]), "version": str(found["version"])}
    uri = str(client.get("mlflow/model-versions/get-download-uri", **query).get("artifact_uri", ""))
    if proxied := in_proxy(client, uri):
        return proxied
    # MLflow lists the files of a logged model (MLflow 3) and those of a run, but not those of a version.
    model = str(found.get("model_id", "")) or _logged_model(str(found.get("source", "")))
    run = str(found.get("run_id", ""))
    lister = _lister_of_model(client, model) if model else _lister_within_run(client, run, uri) if run else None
    return _OneByOne(client, uri, _Route("/model-versions/get-artifact", query, "path"), lister)


def of_logged_model(client: RegistryClient, model: str, uri: str) -> Artifacts:
    """Return the files of a logged model, given its ID and the address of its files."""
    path = f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files"  # MLflow's pages use it; /api has none
    route = _Route(path, {}, "artifact_file_path")
    return in_proxy(client, uri) or _OneByOne(client, uri, route, _lister_of_model(client, model))


def of_run(client: RegistryClient, run: str, root: str, path: str) -> Artifacts:
    """Return the files of a folder among the artifacts of a run.

    Args:
        client: Client of the MLflow server.
        run: ID of the run.
        root: Address of the run's artifacts.
        path: Path of the folder.
    """
    uri = f"{root.rstrip('/')}/{path}"
    route = _Route("/get-artifact", {"run_uuid": run}, "path", path)
    return in_proxy(client, uri) or _OneByOne(client, uri, route, _lister_of_run(client, run, path))


def in_proxy(client: RegistryClient, uri: str) -> Artifacts | None:
    """Return the files in a folder that MLflow proxies, or None if its address is elsewhere."""
    url = urlsplit(uri)
    path = unquote(url.path).strip("/")
    return _Proxied(client, path) if url.scheme == "mlflow-artifacts" and path else None


@dataclass(frozen=True)
class _Proxied:
    """Files that the MLflow server proxies."""

    client: RegistryClient
    root: str

    def listing(self, folder: str) -> Listing:
        path = f"{self.root}/{folder}".rstrip("/")
        return _entries(self.client.get("mlflow-artifacts/artifacts", path=path), "")

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        return self.client.proxied(f"{self.root}/{path}", size, most)


@dataclass(frozen=True)
class _Route:
    """A path on the server that takes the path of a file or a folder as a parameter."""

    path: str
    query: dict[str, str]
    parameter: str
    folder: str = ""  # of the model, among the files that the route knows

    def within(self, path: str) -> str:
        """Return the path of a file or folder of the model, as the route knows it."""
        return f"{self.folder}/{path}".strip("/")

    def queried(self, path: str) -> dict[str, str]:
        """Return the parameters of a request; the route's root is asked for without a path."""
        within = self.within(path)
        return self.query | ({self.parameter: within} if within else {})


@dataclass(frozen=True)
class _Lister:
    """A route of MLflow's API that lists folders."""

    client: RegistryClient
    route: _Route

    def listing(self, folder: str) -> Listing | None:
        """Return the content of a folder, or None if the server does not have the route or the folder."""
        try:
            answer = self.client.get(self.route.path, **self.route.queried(folder))
        except (UnknownError, NoRouteError):
            return None
        return _entries(answer, self.route.within(folder))


@dataclass(frozen=True)
class _OneByOne:
    """Files in a storage that the MLflow server does not proxy. It hands out single files all the same."""

    client: RegistryClient
    uri: str
    route: _Route
    lister: _Lister | None

    def listing(self, folder: str) -> Listing | None:
        return self.lister.listing(folder) if self.lister else None

    def download(self, path: str, size: int | None, most: int) -> Iterator[bytes]:
        try:
            yield from self.client.file(f"{self.route.path}?{urlencode(self.route.queried(path))}", path, size, most)
        except NoRouteError:
            raise LoadError(
                f"its files are stored at {urlsplit(self.uri).scheme or 'an unknown location'}:, which the server at "
                "the tracking URI neither proxies nor hands out",
                PROXY,
            ) from None


def _lister_of_model(client: RegistryClient, model: str) -> _Lister:
    path = f"mlflow/logged-models/{model}/artifacts/directories"
    return _Lister(client, _Route(path, {}, "artifact_directory_path"))


def _lister_of_run(client: RegistryClient, run: str, folder: str) -> _Lister:
    return _Lister(client, _Route("mlflow/artifacts/list", {"run_id": run}, "path", folder))


def _lister_within_run(client: RegistryClient, run: str, uri: str) -> _Lister | None:
    """Return what lists a folder among the artifacts of a run, or None if the folder is elsewhere."""
    try:
        info = client.get("mlflow/runs/get", run_id=run).get("run", {}).get("info", {})
    except (UnknownError, NoRouteError):
        return None
    root, uri = str(info.get("artifact_uri", "")).rstrip("/"), uri.rstrip("/")
    return _lister_of_run(client, run, uri.removeprefix(f"{root}/")) if root and uri.startswith(f"{root}/") else None


def _logged_model(source: str) -> str:
    """Return the ID of the logged model that a version was made from, or "" if it was made from something else."""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else ""


def _entries(answer: dict[str, Any], folder: str) -> Listing:
    """Return the entries of a listing, whose paths begin with the folder, as names within it."""
    sizes, folders = {}, []
    for entry in answer.get("files", []):
        path = str(entry.get("path", ""))
        name = checked_name(path.removeprefix(f"{folder}/") if folder else path)
        if entry.get("is_dir"):
            folders.append(name)
        else:
            sizes[name] = checked_size(name, entry.get("file_size"))
    return sizes, folders
