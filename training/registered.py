"""Read a registered version as the gate and a reproduction need it: its files, its digest, its predictions."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from app.contract import MODEL_FILE, Contract
from training.compare import Numbers
from training.interface import read_contract

_URI = re.compile(r"models:/(?P<name>[^/@:]+)/(?P<version>[1-9][0-9]*)")


class UnusableError(Exception):
    """A version is not what this needs. Its text is one sentence without its subject, the version."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `sha256` is of the file that MLflow gives out, whatever its tags say."""

    name: str
    version: str
    run_id: str
    sha256: str
    contract: Contract
    booster: xgb.Booster

    @property
    def uri(self) -> str:
        """The version as MLflow and the chart name it."""
        return f"models:/{self.name}/{self.version}"

    def predict(self, frame: pd.DataFrame, nthread: int = 1) -> Numbers:
        """Return the booster's answers to rows with this model's columns, shape (rows,) or (rows, outputs).

        A category that this model does not know is missing to it, as the rows were not made for it.
        """
        matrix = np.full((len(frame), len(self.contract.columns)), np.nan, dtype=np.float32)
        for i, column in enumerate(self.contract.columns):
            if column.name not in frame:
                continue  # one of those that may be left out
            values = frame[column.name]
            if column.categories:
                known = {category: code for code, category in enumerate(column.categories)}
                values = values.astype(object).map(known)
            matrix[:, i] = pd.to_numeric(values).to_numpy(dtype=np.float32, na_value=np.nan)
        names, types = self.booster.feature_names, self.booster.feature_types
        rows = xgb.DMatrix(matrix, feature_names=names, feature_types=types, nthread=nthread, enable_categorical=True)
        return np.asarray(self.booster.predict(rows), dtype=np.float64)


def parse(uri: str) -> tuple[str, str]:
    """Return name and version.

    Raises:
        ValueError: it names no version of a registered model.
    """
    if not (match := _URI.fullmatch(uri)):
        raise ValueError(f"{uri!r} is not models:/<name>/<version>; an alias may move meanwhile")
    return match["name"], match["version"]


def read(client: MlflowClient, name: str, version: str, folder: Path) -> Registered:
    """Download a version into the folder.

    Raises:
        UnusableError: it is no model that can be compared.
        mlflow.exceptions.MlflowException, OSError: MLflow does not know it, does not answer or refuses.
    """
    known = client.get_model_version(name, version)
    try:
        path = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder)))
        content = (path / MODEL_FILE).read_bytes()
    except FileNotFoundError:
        raise UnusableError(f"has no {MODEL_FILE}: log an XGBoost model with model_format='ubj'") from None
    try:
        contract = read_contract(path)
        booster = xgb.Booster(model_file=bytearray(content))
    except FileNotFoundError as error:
        raise UnusableError(f"has no {Path(str(error.filename)).name}: train it with python -m training") from None
    except (ValueError, xgb.core.XGBoostError) as error:
        raise UnusableError(f"cannot be read: {' '.join(str(error).split())[:300]}") from None
    columns = [column.name for column in contract.columns]
    if (booster.feature_names or columns) != columns:
        raise UnusableError("names other columns than its booster has features: log it with their signature")
    return Registered(name, version, str(known.run_id or ""), sha256_of(content), contract, booster)


def sha256_of(content: bytes) -> str:
    """Return the digest that names a model file."""
    return hashlib.sha256(content).hexdigest()


def alias_version(client: MlflowClient, name: str, alias: str) -> str:
    """Return the version that the alias names, "" when there is no such alias."""
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the second of an unknown alias
            return ""
        raise
