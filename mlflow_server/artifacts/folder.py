"""The check of a folder on a volume."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError


def check(destination: str) -> None:
    """Create the folder if it does not exist.

    Raises:
        NotReadyError: The folder cannot be created or written.
    """
    folder = Path(urlsplit(destination).path)
    where = f"The folder {folder} (mlflow.artifactsDestination)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotReadyError(f"{where} cannot be created: {error.strerror}. Use a folder on the volume.") from error
    if not os.access(folder, os.W_OK):
        raise NotReadyError(f"{where} is not writable for user {os.getuid()}: check pod.securityContext.fsGroup.")
