"""The files of a model from which its environment is made, without the model itself."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow

from app.model.compatibility import PYTHON_ENV_FILE
from app.model.digest import MLMODEL_FILE
from training.errors import InputError
from training.tracking import registered
from training.tracking.mlflow_errors import mlflow_at

REQUIREMENTS_FILE = "requirements.txt"
_FILES = (MLMODEL_FILE, REQUIREMENTS_FILE, PYTHON_ENV_FILE)


def folder_of(uri: str, tracking_uri: str, work: Path, *, all_files: bool = False) -> Path:
    """Return a folder with the files of a model that describe its environment.

    Args:
        uri: models:/<name>/<version>, or file:///<folder>.
        tracking_uri: Address of the MLflow server.
        work: Folder for the download.
        all_files: Download the whole model.

    Raises:
        InputError: The URI is not valid, or the folder does not exist.
        TrackingError: MLflow is unreachable or refuses.
    """
    if uri.startswith("file://"):
        folder = Path(unquote(urlsplit(uri).path))
        if not (folder / MLMODEL_FILE).is_file():
            raise InputError(f"{folder} has no {MLMODEL_FILE}: name the folder of a model in MLflow's format.")
        return folder
    try:
        registered.parse(uri)
    except ValueError as error:
        raise InputError(f"{error}.") from None
    if not tracking_uri:
        raise InputError("--mlflow-tracking-uri (MLFLOW_TRACKING_URI): set the address of the MLflow server.")
    with mlflow_at(tracking_uri):
        if all_files:
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(work)))
        present = {each.path for each in mlflow.artifacts.list_artifacts(uri)}
        for name in _FILES:
            if name in present:
                mlflow.artifacts.download_artifacts(f"{uri}/{name}", dst_path=str(work))
    return work
