"""The check of the artifact store: whether it exists and accepts the credentials. One module per kind of store."""

from urllib.parse import urlsplit

from mlflow_server.artifacts import azure, folder, google, s3
from mlflow_server.errors import NotReadyError

# The stores whose clients the image contains.
_CHECKS = {
    "": folder.check,
    "file": folder.check,
    "s3": s3.check,
    "gs": google.check,
    "wasbs": azure.check_blobs,
    "abfss": azure.check_data_lake,
}


def check(destination: str) -> None:
    """Check the artifact store once.

    Raises:
        NotReadyError: The store does not exist, refuses the credentials or is unreachable, or the image has no client
            for it.
    """
    scheme = urlsplit(destination).scheme
    if scheme not in _CHECKS:
        known = ", ".join(f"{known}://" for known in _CHECKS if known)
        raise NotReadyError(
            f"mlflow.artifactsDestination starts with {scheme}://, for which this image has no client: use one of "
            f"{known}."
        )
    _CHECKS[scheme](destination)
