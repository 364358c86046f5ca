"""Model URIs and their grammar."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

GRAMMAR = (
    "models:/<name>/<version>, models:/<name>@<alias>, models:/m-<id>, runs:/<run>/<path>, mlflow-artifacts:/<path>, "
    "s3://<bucket>/<path>, gs://<bucket>/<path>, az://<container>/<path>, https://<host>/<path> or file:///<folder>"
)

_PATH = r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^\\\0\n/]+(?:/[^\\\0\n/]+)*"  # of names, none of which is "." or ".."


@dataclass(frozen=True)
class RegisteredModel:
    """A model in MLflow's registry, by version or by alias; the other field is empty."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True)
class LoggedModel:
    """A model that a run logged with MLflow 3, by its ID."""

    id: str

    @property
    def name(self) -> str:
        """The ID, because no other name is unique."""
        return self.id


@dataclass(frozen=True)
class RunModel:
    """A model among the artifacts of an MLflow run."""

    run: str
    path: str

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class ProxiedFolder:
    """A model in the storage that an MLflow server proxies, by its path there."""

    path: str

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class StoredFolder:
    """A model in an object storage, read without MLflow."""

    scheme: str  # s3, gs or az
    bucket: str  # a container on Azure
    path: str

    @property
    def name(self) -> str:
        """Last component of the path, or the bucket."""
        return self.path.rpartition("/")[2] or self.bucket


@dataclass(frozen=True)
class WebFolder:
    """A model on a web server, whose files are found by their names because it lists none."""

    url: str  # without a slash at the end

    @property
    def name(self) -> str:
        """Last component of the path."""
        return unquote(self.url.rpartition("/")[2])


@dataclass(frozen=True)
class ModelFolder:
    """A model in MLflow's folder format, on a volume."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name


OnServer = RegisteredModel | LoggedModel | RunModel | ProxiedFolder  # what an MLflow server hands out
Remote = OnServer | StoredFolder | WebFolder  # what is downloaded
Source = Remote | ModelFolder

_FORMS: tuple[tuple[str, Callable[[re.Match[str]], Source]], ...] = (
    (r"models:/(m-[0-9a-f]{32})", lambda found: LoggedModel(found[1])),
    (r"models:/([^/@:]+)/([1-9][0-9]*)", lambda found: RegisteredModel(found[1], found[2], "")),
    (r"models:/([^/@:]+)@([^/@]+)", lambda found: RegisteredModel(found[1], "", found[2])),
    (rf"runs:/([0-9A-Za-z_-]+)/({_PATH})/?", lambda found: RunModel(found[1], found[2])),
    (rf"mlflow-artifacts:/({_PATH})/?", lambda found: ProxiedFolder(found[1])),
    (
        rf"(s3|gs|az)://([A-Za-z0-9][\w.-]*)(?:/({_PATH})?)?/?",
        lambda found: StoredFolder(found[1], found[2], found[3] or ""),
    ),
    (r"https://[^\s/?#@]+/[^\s?#]+", lambda found: WebFolder(found[0].rstrip("/"))),
)


def source_of(uri: str) -> Source:
    """Parse a model URI.

    Raises:
        ValueError: The URI does not match the grammar.
    """
    for form, source in _FORMS:
        if match := re.fullmatch(form, uri):
            return source(match)
    url = urlsplit(uri)
    if url.scheme == "file" and url.netloc in ("", "localhost") and len(url.path) > 1:
        return ModelFolder(Path(unquote(url.path)))
    raise ValueError(f"MODEL_SERVICE_MODEL_URI must be {GRAMMAR}")
