"""Say where a model is: the grammar of its URI."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

GRAMMAR = "models:/<name>/<version>, models:/<name>@<alias> or file:///<folder>"

_REGISTERED = re.compile(r"models:/(?P<name>[^/@:]+)(?:/(?P<version>[1-9][0-9]*)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class RegisteredModel:
    """A model of MLflow's registry, by version or by alias; the other one is empty."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True)
class ModelFolder:
    """A model in MLflow's folder format, on a volume."""

    path: Path


def source_of(uri: str) -> RegisteredModel | ModelFolder:
    """Return where the model of a URI is.

    Raises:
        ValueError: the URI has another form.
    """
    if match := _REGISTERED.fullmatch(uri):
        return RegisteredModel(match["name"], match["version"] or "", match["alias"] or "")
    url = urlsplit(uri)
    if url.scheme == "file" and url.netloc in ("", "localhost") and len(url.path) > 1:
        return ModelFolder(Path(unquote(url.path)))
    raise ValueError(f"MODEL_SERVICE_MODEL_URI must be {GRAMMAR}")
