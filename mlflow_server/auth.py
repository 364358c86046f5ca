"""Basic authentication: the settings that MLflow reads from a file, made from the environment."""

import configparser
import os
from pathlib import Path

from mlflow_server.errors import NotReadyError

KEY = "auth.existingSecret"
SHORTEST_PASSWORD = 12  # MLflow's own limit
# What MLflow shipped once, which everybody knows.
LEGACY_PASSWORD = "password1234"  # noqa: S105


def write_settings(path: Path) -> str:
    """Write MLflow's settings file, readable by this user alone, and return the URI of the users' database.

    Raises:
        NotReadyError: the Secret holds what MLflow would refuse. The text does not repeat it.
    """
    password = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD", "")
    if not os.environ.get("MLFLOW_AUTH_ADMIN_USERNAME"):
        raise NotReadyError(
            f"The administrator's name in {KEY} is empty: put one there, under the key of auth.usernameKey."
        )
    if len(password) < SHORTEST_PASSWORD or password == LEGACY_PASSWORD:
        problem = f"has {len(password)} characters" if len(password) < SHORTEST_PASSWORD else "is known to everybody"
        raise NotReadyError(
            f"The administrator's password in {KEY} {problem}: put one of {SHORTEST_PASSWORD} or more there, under the "
            "key of auth.passwordKey."
        )
    if not os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY"):
        raise NotReadyError(
            f"The key that signs forms is empty in {KEY}: put one there, under the key of auth.secretKeyKey."
        )
    uri = os.environ.get("AUTH_DATABASE_URI") or os.environ["MLFLOW_BACKEND_STORE_URI"]
    settings = configparser.ConfigParser()
    settings["mlflow"] = {
        "default_permission": os.environ["AUTH_DEFAULT_PERMISSION"],
        "database_uri": uri.replace("%", "%%"),  # configparser's own escape, which MLflow's reading undoes
        "auth_cache_ttl_seconds": os.environ["AUTH_CACHE_TTL_SECONDS"],
    }
    path.touch(mode=0o600)
    with path.open("w") as file:
        settings.write(file)
    return uri
