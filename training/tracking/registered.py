"""A registered version for the gate and a reproduction: its contract, digest and predictions."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from app.errors import LoadError
from app.model.calibration import calibrated
from app.model.contract import CONTRACT_FILE, Contract, ContractColumn
from app.model.dates import feature_names
from app.model.digest import digest_of
from app.model.files import ModelFiles, flavor_of, mlmodel_of, model_file_of, xgboost_flavor
from training.metrics.truth import Numbers

_NAMED = "--data and --target to compare it on a data set that you name"
_URI = re.compile(r"models:/(?P<name>[^/@:]+)/(?P<version>[1-9][0-9]*)")


class UnusableError(Exception):
    """The version cannot be used. The message is a sentence without its subject, the version."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model. Its digests are those of the files that MLflow returns, not of its tags."""

    name: str
    version: str
    run_id: str
    files: dict[str, str]  # digest of each deciding file, by path
    model_file: str
    contract: Contract
    booster: xgb.Booster

    @property
    def sha256(self) -> str:
        """The digest of the model: of every file that decides an answer."""
        return digest_of(self.files)

    @property
    def file_sha256(self) -> str:
        """The digest of the model file alone, which a reproduction repeats."""
        return self.files[self.model_file]

    def same_answers(self, other: "Registered") -> bool:
        """Return whether both models have the same booster and give its numbers the same meaning."""
        meanings = [each.contract.model_copy(update={"profile": None}) for each in (self, other)]
        return self.file_sha256 == other.file_sha256 and meanings[0] == meanings[1]

    @property
    def uri(self) -> str:
        """The URI of the version in MLflow and in the chart."""
        return f"models:/{self.name}/{self.version}"

    def predict(self, frame: pd.DataFrame, nthread: int = 1) -> Numbers:
        """Return predictions for rows with this model's features, shape (rows,) or (rows, outputs).

        A category that this model does not know becomes a missing value, because the rows may belong to another model.
        """
        categories = {column.name: column.categories for column in self.contract.columns}
        features = _features(self.contract)
        matrix = np.full((len(frame), len(features)), np.nan, dtype=np.float32)
        for i, name in enumerate(features):
            if name not in frame:
                continue  # an optional column
            values = frame[name]
            if categories.get(name):
                known = {category: code for code, category in enumerate(categories[name])}
                values = values.astype(object).map(known)
            matrix[:, i] = pd.to_numeric(values).to_numpy(dtype=np.float32, na_value=np.nan)
        names, types = self.booster.feature_names, self.booster.feature_types
        rows = xgb.DMatrix(matrix, feature_names=names, feature_types=types, nthread=nthread, enable_categorical=True)
        found = self.booster.predict(rows)
        if self.contract.calibration:
            found = calibrated(found, self.contract.calibration)
        return np.asarray(found, dtype=np.float64)


def parse(uri: str) -> tuple[str, str]:
    """Return the name and the version of a URI.

    Raises:
        ValueError: The URI does not name a version of a registered model.
    """
    if not (match := _URI.fullmatch(uri)):
        raise ValueError(f"{uri!r} is not models:/<name>/<version>; an alias is not accepted, because it can move")
    return match["name"], match["version"]


def read(client: MlflowClient, name: str, version: str, folder: Path) -> Registered:
    """Download a version into the folder.

    Raises:
        UnusableError: The version cannot be compared.
        mlflow.exceptions.MlflowException, OSError: The version does not exist, or MLflow is unreachable or refuses.
    """
    known = client.get_model_version(name, version)
    try:
        path = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder)))
        files = ModelFiles(path)
        if flavor_of(mlmodel_of(files), "xgboost") is None:
            raise UnusableError(f"is not an XGBoost model: use {_NAMED}")
        content = files[model_file_of(xgboost_flavor(mlmodel_of(files)))]
    except LoadError as error:
        raise UnusableError(f"cannot be read: {error}") from None
    try:
        contract = read_contract(path)
        booster = xgb.Booster(model_file=bytearray(content))
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise UnusableError(f"has no {name}: train it with python -m training, or use {_NAMED}") from None
    except (ValueError, xgb.core.XGBoostError) as error:
        raise UnusableError(f"cannot be read: {' '.join(str(error).split())[:300]}") from None
    features = _features(contract)
    if (booster.feature_names or features) != features:
        raise UnusableError(
            "has columns that differ from the features of its booster: log it with the signature of the features"
        )
    return Registered(name, version, str(known.run_id or ""), files.digests(), files.model_file, contract, booster)


def _features(contract: Contract) -> list[str]:
    """Return the names of the features that are made from the columns."""
    return [name for column in contract.columns for name in feature_names(column.name, column.parts)]


def digests_of(name: str, version: str, folder: Path) -> tuple[dict[str, str], str]:
    """Download a version of any flavor, and return the digest of each deciding file, and the name of its model file.

    Raises:
        UnusableError: A file cannot be read.
        mlflow.exceptions.MlflowException, OSError: The version does not exist, or MLflow is unreachable or refuses.
    """
    path = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder)))
    try:
        files = ModelFiles(path, to_load=False)
        return files.digests() if files.model_file else files.all_digests(), files.model_file
    except LoadError as error:
        raise UnusableError(f"cannot be read: {error}") from None


def read_contract(folder: Path) -> Contract:
    """Return the contract in the folder of a model. If it has no columns, they come from MLflow's signature.

    Raises:
        OSError: There is no contract.
        ValueError: The contract is not valid, or there is no signature with the columns.
    """
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    if contract.columns:
        return contract
    signature = yaml.safe_load((folder / "MLmodel").read_bytes()).get("signature") or {}
    columns = [ContractColumn.model_validate(entry) for entry in json.loads(signature.get("inputs") or "[]")]
    if not columns:
        raise ValueError("the model has no signature with column names")
    return contract.model_copy(update={"columns": tuple(columns)})


def alias_version(client: MlflowClient, name: str, alias: str) -> str:
    """Return the version that the alias names, or "" if the alias does not exist."""
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # the second for an unknown alias
            return ""
        raise
