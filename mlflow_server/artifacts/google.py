"""The check of a bucket of Google Cloud Storage, with the client that MLflow uses for it."""

from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError


def check(destination: str) -> None:
    """List at most one object of the bucket.

    Raises:
        NotReadyError: The bucket does not exist, refuses the credentials or is unreachable.
    """
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository
    from requests.exceptions import RequestException

    bucket = urlsplit(destination).netloc
    where = f"The bucket {bucket} (mlflow.artifactsDestination) of Google Cloud Storage"
    client = GCSArtifactRepository(destination).client
    try:
        next(iter(client.list_blobs(bucket, max_results=1, timeout=10, retry=None)), None)
    except NotFound as error:
        raise NotReadyError(f"{where} does not exist: create it, or correct mlflow.artifactsDestination.") from error
    except (Forbidden, Unauthorized) as error:
        raise NotReadyError(
            f"{where} refuses the credentials, or there are none: give the ServiceAccount in "
            "serviceAccount.annotations an identity with the role Storage Object User, or mount a key "
            "and name its file in the variable GOOGLE_APPLICATION_CREDENTIALS in extraEnv."
        ) from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        reason = " ".join(str(error).split())[:300]
        raise NotReadyError(f"{where} is unreachable: {reason} Check that this pod may reach it.") from error
