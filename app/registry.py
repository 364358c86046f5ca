"""Turn a URI of MLflow's registry into an immutable version and a verified folder on this disk."""

import hashlib
import logging
import math
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from app.contract import CONTRACT_FILE, MODEL_FILE
from app.errors import LoadError
from app.source import RegisteredModel
from app.tracking import Tracking, UnknownError

MLMODEL_FILE = "MLmodel"
EXAMPLE_FILE = "input_example.json"
REQUIRED_FILES = (MLMODEL_FILE, MODEL_FILE)
# The only names that are ever written to disk, so no artifact can choose where it lands. A model that is served by
# MLflow is downloaded whole: its names are looked at one by one.
WANTED_FILES = (*REQUIRED_FILES, EXAMPLE_FILE, CONTRACT_FILE)

MOST_FILES = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from; what is not known is empty. `environment` is what it was trained with."""

    name: str
    version: str
    uri: str
    alias: str = ""
    run_id: str = ""
    git_commit: str = ""
    data_digest: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, str]:
        """What each answer says about the model."""
        return {"name": self.name, "version": self.version}


def fetch(
    tracking: Tracking, wanted: RegisteredModel, served_name: str, cache: Path, *, whole: bool = False
) -> tuple[Path, Provenance]:
    """Resolve `wanted`, download its files below `cache` and return their folder.

    Args:
        tracking: MLflow.
        wanted: the model.
        served_name: what it is called here.
        cache: a folder of this process's own.
        whole: all files, in folders too; else those that an XGBoost model needs.

    Raises:
        LoadError: MLflow does not answer or refuses, or the files are not what it says they are.
    """
    found = _resolve(tracking, wanted)
    version, tags, run_id = str(found["version"]), _pairs(found.get("tags")), str(found.get("run_id", ""))
    log.info("model resolved", extra={"version": version, "alias": wanted.alias, "run_id": run_id})
    run = _run(tracking, run_id)
    data = run.get("data", {})
    run_tags = _pairs(data.get("tags"))
    folder = _download(tracking, wanted.name, version, tags.get("sha256", ""), cache, whole)
    return folder, Provenance(
        name=served_name,
        version=version,
        uri=f"models:/{wanted.name}/{version}",
        alias=wanted.alias,
        run_id=run_id,
        git_commit=tags.get("git_commit") or run_tags.get("mlflow.source.git.commit", ""),
        data_digest=tags.get("data_digest", ""),
        parameters=_pairs(data.get("params")),
        metrics={name: _finite(value) for name, value in _pairs(data.get("metrics")).items()},
        environment={k.removeprefix("env."): v for k, v in run_tags.items() if k.startswith("env.")},
    )


def _resolve(tracking: Tracking, wanted: RegisteredModel) -> dict[str, Any]:
    """Return MLflow's record of the version, which an alias names only now."""
    if wanted.alias:
        answer = tracking.get("mlflow/registered-models/alias", name=wanted.name, alias=wanted.alias)
    else:
        answer = tracking.get("mlflow/model-versions/get", name=wanted.name, version=wanted.version)
    found = answer.get("model_version")
    if not isinstance(found, dict) or not str(found.get("version", "")).isdecimal():
        raise LoadError("MLflow names no version", "check the version of the MLflow server", retryable=True)
    if found.get("status", "READY") != "READY":
        raise LoadError(
            f"version {found['version']} is {found['status']}", "wait for its registration to end", retryable=True
        )
    return found


def _run(tracking: Tracking, run_id: str) -> dict[str, Any]:
    """Return the run that made the model, or nothing when it was deleted: the model serves all the same."""
    if not run_id:
        return {}
    try:
        run = tracking.get("mlflow/runs/get", run_id=run_id).get("run")
    except UnknownError:
        return {}
    return run if isinstance(run, dict) else {}


def _download(tracking: Tracking, name: str, version: str, sha256: str, cache: Path, whole: bool) -> Path:
    """Download into a folder that either does not exist or is whole."""
    begin = time.monotonic()
    root = _artifact_root(tracking.get("mlflow/model-versions/get-download-uri", name=name, version=version))
    sizes = _everything(tracking, root) if whole else _listing(tracking, root)[0]
    if missing := [wanted for wanted in REQUIRED_FILES[: 1 if whole else None] if wanted not in sizes]:
        remedy = "log an XGBoost model with model_format='ubj' and a signature"
        if not whole:
            remedy += ", or set model.flavor=pyfunc with an image that has the model's packages"
        raise LoadError(f"version {version} has no file {' and no file '.join(missing)}", remedy)
    target = cache / f"{name}-{version}"
    partial = cache / f"{target.name}.partial"
    try:
        # The cache is this process's own, so what an earlier container left in it is in nobody's use.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        files = [file for file in (sizes if whole else WANTED_FILES) if file in sizes]
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            found = _save(tracking, f"{root}/{file}", sizes[file], partial / file)
            if file == MODEL_FILE and sha256 and found != sha256:
                raise LoadError(
                    f"{file} of version {version} has sha256 {found}, but {sha256} was registered",
                    "find out who changed it, and register a new version",
                )
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except OSError as error:
        cause = f"the download cannot be written to {cache} ({error.strerror})"
        raise LoadError(cause, "give MODEL_SERVICE_CACHE_DIR a writable folder with enough space") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    facts = {"files": files, "bytes": sum(sizes[file] for file in files), "folder": str(target)}
    seconds = round(time.monotonic() - begin, 3)
    digest = "as registered" if sha256 else "none registered"
    log.info("model downloaded", extra=facts | {"seconds": seconds, "digest": digest})
    return target


def _save(tracking: Tracking, path: str, size: int, target: Path) -> str:
    """Write one artifact and return its sha256."""
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for piece in tracking.download(path, size):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _artifact_root(answer: dict[str, Any]) -> str:
    uri = str(answer.get("artifact_uri", ""))
    url = urlsplit(uri)
    if url.scheme != "mlflow-artifacts" or not url.path.strip("/"):
        raise LoadError(
            f"its files are at {url.scheme or 'an unknown place'}:, which MLflow does not hand out",
            "let the MLflow server proxy artifacts (--artifacts-destination) and log the model again",
        )
    return unquote(url.path).strip("/")


def _everything(tracking: Tracking, root: str) -> dict[str, int]:
    """Return the size in bytes of each file of the model's folder, by its path there."""
    sizes: dict[str, int] = {}
    folders = [""]
    while folders:
        within = folders.pop()
        files, below = _listing(tracking, root + within)
        sizes |= {f"{within}/{name}".lstrip("/"): size for name, size in files.items()}
        folders += [f"{within}/{name}" for name in below]
        if len(sizes) + len(folders) > MOST_FILES:
            raise LoadError(f"it has more than {MOST_FILES} files and folders", "log it with fewer")
    return sizes


def _listing(tracking: Tracking, path: str) -> tuple[dict[str, int], list[str]]:
    """Return the size in bytes of each file directly in a folder, and the folders in it."""
    sizes, folders = {}, []
    for entry in tracking.get("mlflow-artifacts/artifacts", path=path).get("files", []):
        name = str(entry.get("path", ""))
        if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
            raise LoadError(
                f"MLflow lists a file named {name[:100]!r}, which is no plain file name",
                "find out who wrote it, and register a new version",
            )
        if entry.get("is_dir"):
            folders.append(name)
        else:
            sizes[name] = int(entry.get("file_size") or 0)
    return sizes, folders


def _pairs(entries: Any) -> dict[str, str]:
    """Return MLflow's list of {"key", "value"} as a dict."""
    return {str(e["key"]): str(e.get("value", "")) for e in entries or []}


def _finite(value: str) -> float | None:
    """Return a metric as a number; JSON has none for NaN and infinity."""
    number = float(value)
    return number if math.isfinite(number) else None
