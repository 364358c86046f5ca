"""The check of the artifact store: whether it exists and accepts the credentials."""

import importlib.util
import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError

KEY = "mlflow.artifactsDestination"
# Modules that MLflow imports for other stores, and their packages. An image built FROM this one may contain them.
PACKAGES = {
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake"),
}


def check(destination: str) -> None:
    """Check the artifact store once.

    Raises:
        NotReadyError: The store does not exist, refuses the credentials or is unreachable.
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
            f"{where} needs credentials, but none are set: name a Secret in s3.existingSecret, or give the "
            "ServiceAccount a cloud identity in serviceAccount.annotations."
        ) from error
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        remedies = {
            404: f"does not exist: create it, or correct {KEY}.",
            403: "refuses the credentials: correct s3.existingSecret, or allow them to list this bucket.",
            301: "is in another region: set s3.region.",
        }
        raise NotReadyError(
            f"{where} {remedies.get(status, f'responds with {status}: check s3.endpointUrl.')}"
        ) from error
    except (BotoCoreError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NotReadyError(
            f"{where} is unreachable: {reason} Check that it runs, that this pod may reach it, and s3.endpointUrl."
        ) from error


def _check_package(scheme: str) -> None:
    module, package = PACKAGES[scheme]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise NotReadyError(
            f"{KEY} starts with {scheme}://, which needs {package}: use an image built FROM this one that contains it."
        )


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotReadyError(
            f"The folder {folder} ({KEY}) cannot be created: {error.strerror}. Use a folder on the volume."
        ) from error
    if not os.access(folder, os.W_OK):
        raise NotReadyError(
            f"The folder {folder} ({KEY}) is not writable for user {os.getuid()}: check pod.securityContext.fsGroup."
        )
