"""The check of a container of Azure Storage, with the clients that MLflow uses for it."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError

FORBIDDEN = 403
SHORT = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 10}


def check_blobs(destination: str) -> None:
    """List at most one blob of the container in `wasbs://<container>@<account>.blob.core.windows.net/…`.

    Raises:
        NotReadyError: The container does not exist, refuses the credentials or is unreachable, or the URI is not valid.
    """
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository

    def look() -> None:
        client = AzureBlobArtifactRepository(destination).client
        next(iter(client.get_container_client(_container(destination)).list_blobs(results_per_page=1, **SHORT)), None)

    _check(destination, look)


def check_data_lake(destination: str) -> None:
    """List at most one path of the file system in `abfss://<file system>@<account>.dfs.core.windows.net/…`.

    Raises:
        NotReadyError: The file system does not exist, refuses the credentials or is unreachable, or the URI is not
            valid.
    """
    from mlflow.store.artifact.azure_data_lake_artifact_repo import AzureDataLakeArtifactRepository

    def look() -> None:
        client = AzureDataLakeArtifactRepository(destination).fs_client
        next(iter(client.get_paths(recursive=False, max_results=1, **SHORT)), None)

    _check(destination, look)


def _container(destination: str) -> str:
    return urlsplit(destination).netloc.partition("@")[0]


def _check(destination: str, look: Callable[[], Any]) -> None:
    from azure.core.exceptions import AzureError, ClientAuthenticationError, ResourceNotFoundError
    from mlflow.exceptions import MlflowException

    where = f"The container {_container(destination)} (mlflow.artifactsDestination) of Azure Storage"
    try:
        look()
    except ResourceNotFoundError as error:
        raise NotReadyError(f"{where} does not exist: create it, or correct mlflow.artifactsDestination.") from error
    except (AzureError, ValueError) as error:
        if isinstance(error, ClientAuthenticationError) or getattr(error, "status_code", None) == FORBIDDEN:
            raise NotReadyError(
                f"{where} refuses the credentials, or there are none ({_first_line(error)}): give the ServiceAccount "
                "in serviceAccount.annotations an identity with the role Storage Blob Data Contributor, or put "
                "AZURE_STORAGE_CONNECTION_STRING into a Secret and name it in extraEnvFrom."
            ) from error
        raise NotReadyError(
            f"{where} is unreachable: {_first_line(error)} Check that this pod may reach it."
        ) from error
    except MlflowException as error:
        raise NotReadyError(f"mlflow.artifactsDestination={destination} is not valid: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
