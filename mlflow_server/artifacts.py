"""Where the server keeps artifacts: whether it is there and takes what we have to show."""

import importlib.util
import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError

KEY = "mlflow.artifactsDestination"
# What MLflow imports for other stores; an image made FROM ours may have it.
PACKAGES = {
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake"),
}


def check(destination: str) -> None:
    """Look at the place once.

    Raises:
        NotReadyError: it is missing, refuses us or cannot be reached.
    """
    parts = urlsplit(destination)
    if parts.scheme == "s3":
        _check_bucket(parts.netloc)
    elif parts.scheme in PACKAGES:
        _check_package(parts.scheme)
    elif parts.scheme in ("", "file"):
        _check_folder(Path(parts.path))


def _check_bucket(bucket: str) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    where = f"The bucket {bucket} ({KEY}) at {endpoint or 'AWS'}"
    short = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
    try:
        boto3.client("s3", endpoint_url=endpoint, config=short).head_bucket(Bucket=bucket)
    except NoCredentialsError as error:
        raise NotReadyError(
            f"{where} needs credentials and there are none: name a Secret in s3.existingSecret, or give the "
            "ServiceAccount a cloud identity in serviceAccount.annotations."
        ) from error
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        said = {
            404: f"does not exist: create it, or correct {KEY}.",
            403: "refuses the credentials: correct s3.existingSecret, or allow them to list this bucket.",
            301: "is in another region: set s3.region.",
        }
        raise NotReadyError(f"{where} {said.get(status, f'answers {status}: is s3.endpointUrl right?')}") from error
    except (BotoCoreError, ValueError) as error:
        said_by_client = " ".join(str(error).split())
        raise NotReadyError(
            f"{where} cannot be reached: {said_by_client} Is it up, may this pod reach it, and is s3.endpointUrl right?"
        ) from error


def _check_package(scheme: str) -> None:
    module, package = PACKAGES[scheme]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise NotReadyError(
            f"{KEY} starts with {scheme}://, which needs {package}: use an image made FROM this one with it."
        )


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotReadyError(
            f"The folder {folder} ({KEY}) cannot be made: {error.strerror}. Name one on the volume."
        ) from error
    if not os.access(folder, os.W_OK):
        raise NotReadyError(
            f"The folder {folder} ({KEY}) is not writable for user {os.getuid()}: check podSecurityContext.fsGroup."
        )
