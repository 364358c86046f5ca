"""Model URIs and their grammar."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

GRAMMAR = "models:/<name>/<version>, models:/<name>@<alias> or file:///<folder>"

_REGISTERED = re.compile(r"models:/(?P<name>[^/@:]+)(?:/(?P<version>[1-9][0-9]*)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class RegisteredModel:
    """A model in MLflow's registry, by version or by alias; the other field is empty."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True)
class ModelFolder:
    """A model in MLflow's folder format, on a volume."""

    path: Path


def source_of(uri: str) -> RegisteredModel | ModelFolder:
    """Parse a model URI.

    Raises:
        ValueError: The URI does not match the grammar.
    """
    if match := _REGISTERED.fullmatch(uri):
        return RegisteredModel(match["name"], match["version"] or "", match["alias"] or "")
    url = urlsplit(uri)
    if url.scheme == "file" and url.netloc in ("", "localhost") and len(url.path) > 1:
        return ModelFolder(Path(unquote(url.path)))
    raise ValueError(f"MODEL_SERVICE_MODEL_URI must be {GRAMMAR}")
