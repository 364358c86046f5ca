"""Basic authentication: the settings file of MLflow, written from the environment."""

import configparser
import os
from pathlib import Path

from mlflow_server.errors import NotReadyError

KEY = "auth.existingSecret"
SHORTEST_PASSWORD = 12  # limit of MLflow
# A former default of MLflow, which is publicly known.
LEGACY_PASSWORD = "password1234"  # noqa: S105


def write_settings(path: Path) -> str:
    """Write MLflow's settings file, which only this user can read, and return the URI of the database of users.

    Raises:
        NotReadyError: MLflow would refuse a value of the Secret. The message does not contain the value.
    """
    password = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD", "")
    if not os.environ.get("MLFLOW_AUTH_ADMIN_USERNAME"):
        raise NotReadyError(f"The administrator's name in {KEY} is empty: add it under the key of auth.usernameKey.")
    if len(password) < SHORTEST_PASSWORD or password == LEGACY_PASSWORD:
        problem = f"has {len(password)} characters" if len(password) < SHORTEST_PASSWORD else "is publicly known"
        raise NotReadyError(
            f"The administrator's password in {KEY} {problem}: use at least {SHORTEST_PASSWORD} characters, under the "
            "key of auth.passwordKey."
        )
    if not os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY"):
        raise NotReadyError(f"The key that signs forms is empty in {KEY}: add it under the key of auth.secretKeyKey.")
    uri = os.environ.get("AUTH_DATABASE_URI") or os.environ["MLFLOW_BACKEND_STORE_URI"]
    settings = configparser.ConfigParser()
    settings["mlflow"] = {
        "default_permission": os.environ["AUTH_DEFAULT_PERMISSION"],
        "database_uri": uri.replace("%", "%%"),  # the escape of configparser, which MLflow reverses
        "auth_cache_ttl_seconds": os.environ["AUTH_CACHE_TTL_SECONDS"],
    }
    path.touch(mode=0o600)
    with path.open("w") as file:
        settings.write(file)
    return uri
