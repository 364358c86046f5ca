"""Files of a model folder in MLflow's format (MLmodel, contract, input example), and the origin of a model."""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from app.errors import LoadError
from app.model import memory
from app.model.columns import column_name
from app.model.contract import CONTRACT_FILE, Contract
from app.model.digest import EXAMPLE_FILE, MLMODEL_FILE

# A file that MLflow's client adds to downloads; it is not part of the model.
NOT_THE_MODELS = "registered_model_meta"
_PLAIN_NAME = re.compile(r"[^./\\\0\n][^/\\\0\n]*")
LOG_AGAIN = "log the model again with mlflow.xgboost.log_model(model_format='ubj')"


@dataclass(frozen=True)
class Provenance:
    """Origin of a model.

    Unknown fields are empty; `environment` describes the training environment. The version of a model outside a
    registry is empty until its file has been read.
    """

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
        """The part that every response contains."""
        return {"name": self.name, "version": self.version}

    def completed(self, mlmodel: dict[str, Any], sha256: str) -> "Provenance":
        """Return the provenance with a version: outside a registry, the first 12 digits of the model's digest."""
        run_id = self.run_id or str(mlmodel.get("run_id") or "")
        return replace(self, version=self.version or sha256[:12], run_id=run_id)


class ModelFiles:
    """The deciding files of a model folder. Each is read once, so that the verified bytes are the parsed ones.

    Of MLmodel, only the name of the model file is read before the digests can be verified.

    Args:
        folder: Folder in MLflow's format.
        to_load: Whether the model is loaded afterwards, and must fit the container's memory.

    Raises:
        LoadError: A file exists and cannot be read, or the model needs more memory than the container has.
    """

    def __init__(self, folder: Path, *, to_load: bool = True) -> None:
        self.folder = folder
        self.model_file = ""  # name of an XGBoost model's file, if MLmodel names one
        self._contents: dict[str, bytes] = {}
        self._keep(MLMODEL_FILE, EXAMPLE_FILE, CONTRACT_FILE)
        with suppress(LoadError):
            self.model_file = model_file_of(xgboost_flavor(mlmodel_of(self)))
        if self.model_file and to_load:
            memory.require(folder / self.model_file)
        self._keep(self.model_file)

    def __contains__(self, name: str) -> bool:
        return name in self._contents

    def __getitem__(self, name: str) -> bytes:
        """Return the content of a file; raise LoadError if it does not exist."""
        return self._contents[name] if name in self._contents else self._read(name)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 digest of each deciding file."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self._contents.items()}

    def all_digests(self) -> dict[str, str]:
        """Return the SHA-256 digest of each file in the folder, by path.

        Raises:
            LoadError: A file cannot be read, or its name has a line break, which would make the digest ambiguous.
        """
        found = self.digests()
        try:
            for path in self.folder.rglob("*"):
                name = path.relative_to(self.folder).as_posix()
                if "\n" in name:
                    raise LoadError(f"the file name {name!r} contains a line break", "rename the file")
                if name not in found and name != NOT_THE_MODELS and path.is_file():
                    with path.open("rb") as file:
                        found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise LoadError(f"{error.filename} cannot be read ({error.strerror})", "check the folder's files") from None
        return found

    def _keep(self, *names: str) -> None:
        self._contents |= {name: self._read(name) for name in names if name and (self.folder / name).is_file()}

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            remedy = "point the URI at the folder that mlflow.xgboost.save_model wrote"
            raise LoadError(f"{self.folder / name} cannot be read ({error.strerror})", remedy) from None


def mlmodel_of(files: ModelFiles) -> dict[str, Any]:
    """Return the content of MLmodel.

    Raises:
        LoadError: The file cannot be read, or contains no flavors.
    """
    try:
        mlmodel = yaml.safe_load(files[MLMODEL_FILE])
    except (yaml.YAMLError, UnicodeDecodeError):
        raise LoadError("MLmodel is not valid YAML", LOG_AGAIN) from None
    if not isinstance(mlmodel, dict) or not isinstance(mlmodel.get("flavors"), dict):
        raise LoadError("MLmodel contains no flavor", LOG_AGAIN)
    return mlmodel


def flavor_of(mlmodel: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the section of a flavor in MLmodel, or None."""
    found = mlmodel["flavors"].get(name)
    return found if isinstance(found, dict) else None


def xgboost_flavor(mlmodel: dict[str, Any]) -> dict[str, Any]:
    """Return the section of the flavor xgboost in MLmodel.

    Raises:
        LoadError: The model has no such flavor.
    """
    if (flavor := flavor_of(mlmodel, "xgboost")) is None:
        raise LoadError(
            "MLmodel has no flavor xgboost, which is the only one that needs no packages of the model",
            f"{LOG_AGAIN}, or set model.flavor=pyfunc",
        )
    return flavor


def model_file_of(flavor: dict[str, Any]) -> str:
    """Return the name of an XGBoost model's file, which depends on the format that was requested from MLflow.

    Raises:
        LoadError: It is not a plain file name.
    """
    name = flavor.get("data")
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise LoadError(
            f"the model file in MLmodel is {str(name)[:100]!r}, which is not a plain file name",
            LOG_AGAIN,
        )
    return name


def trained_at(mlmodel: dict[str, Any]) -> datetime | None:
    """Return the time at which the model was logged, as recorded by MLflow."""
    try:
        return datetime.fromisoformat(str(mlmodel.get("utc_time_created"))).replace(tzinfo=UTC)
    except ValueError:
        return None


def contract_of(files: ModelFiles) -> Contract | None:
    """Return the contract, or None if the model has none.

    Raises:
        LoadError: The contract is invalid.
    """
    if CONTRACT_FILE not in files:
        return None
    try:
        return Contract.model_validate_json(files[CONTRACT_FILE])
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise LoadError(f"{CONTRACT_FILE} is invalid: {problems}", "correct what training writes") from None


def example_of(files: ModelFiles, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the logged input example as a valid request, or None if it is neither a table nor an array.

    Args:
        files: Files of the model.
        names: Names of its columns, for examples that are arrays.

    Raises:
        LoadError: The example is not valid JSON.
    """
    if EXAMPLE_FILE not in files:
        return None
    try:
        # MLflow writes missing values as NaN, which JSON does not support.
        example = json.loads(files[EXAMPLE_FILE], parse_constant=lambda _: None)
    except ValueError:
        raise LoadError(f"{EXAMPLE_FILE} is not valid JSON", LOG_AGAIN) from None
    if isinstance(example, dict) and example.keys() in ({"data"}, {"inputs"}) and example.keys() != set(names):
        (example,) = example.values()  # of numbered columns, and of arrays in older versions of MLflow
    if isinstance(example, list) and example and isinstance(example[0], list):
        one = len(names) == 1 and len(example[0]) != 1  # a column whose cells are themselves arrays
        return {"columns": list(names), "data": [[row] for row in example] if one else example}
    if not isinstance(example, dict):
        return None
    if {"columns", "data"} <= example.keys():
        columns, data = example["columns"], example["data"]
        if not isinstance(columns, list) or not isinstance(data, list) or not data:
            return None
        return {"columns": [column_name(name) for name in columns], "data": data}
    if example.keys() == set(names) and all(isinstance(each, list) and each for each in example.values()):
        return {"columns": list(names), "data": [list(row) for row in zip(*(example[n] for n in names), strict=False)]}
    return None
