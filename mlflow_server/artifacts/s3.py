"""The check of a bucket of S3."""

import os
from urllib.parse import urlsplit

from mlflow_server.errors import NotReadyError

KEY = "mlflow.artifactsDestination"


def check(destination: str) -> None:
    """Request the head of the bucket.

    Raises:
        NotReadyError: The bucket does not exist, refuses the credentials or is unreachable.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    bucket = urlsplit(destination).netloc
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
