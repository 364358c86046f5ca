"""The preparation with a real SQLite file; tests/e2e uses PostgreSQL and S3."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tools.cluster.cache import ROOT

PASSWORD = "twelve-or-more-%"  # noqa: S105 - of a temporary file
AUTH = {
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "any",
    "AUTH_DEFAULT_PERMISSION": "NO_PERMISSIONS",
    "AUTH_CACHE_TTL_SECONDS": "60",
}


def prepare(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the preparation with a database and artifacts in a folder, and return the finished process."""
    message = folder / "termination-log"
    message.write_text("")
    own = {
        "PREPARE_TIMEOUT_SECONDS": "0",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "TERMINATION_MESSAGE_PATH": str(message),
        **environment,
    }
    command = [sys.executable, "-m", "mlflow_server.prepare"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a prepared database, including users."""
    made: Path = tmp_path_factory.mktemp("prepared")
    done = prepare(made, **AUTH, MLFLOW_AUTH_CONFIG_PATH=str(made / "basic_auth.ini"))
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def tables(folder: Path) -> Iterator[dict[str, int]]:
    """Return the number of rows of each table."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        yield {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}  # noqa: S608


def test_empty_database_gets_the_tables_of_runs_and_users(tables: dict[str, int]) -> None:
    assert {"runs", "experiments", "registered_models", "users", "roles"} <= tables.keys()
    assert (tables["alembic_version"], tables["alembic_version_auth"]) == (1, 1)


def test_second_preparation_changes_nothing(folder: Path) -> None:
    done = prepare(folder)

    assert done.returncode == 0
    assert "is up to date" in done.stderr
    assert (folder / "termination-log").read_text() == ""


def test_only_this_user_and_mlflow_read_the_auth_settings(folder: Path) -> None:
    settings = folder / "basic_auth.ini"
    read = "from mlflow.server.auth.config import read_auth_config as r; print(*r()[:2], r().auth_cache_ttl_seconds)"

    done = subprocess.run(
        [sys.executable, "-c", read],
        env={**os.environ, **AUTH, "MLFLOW_AUTH_CONFIG_PATH": str(settings)},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["NO_PERMISSIONS", f"sqlite:///{folder}/mlflow.db", "60"]
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600


def test_artifacts_folder_is_created(folder: Path) -> None:
    assert (folder / "artifacts").is_dir()


def test_missing_database_is_logged_once_and_becomes_the_termination_message(tmp_path: Path) -> None:
    uri = "postgresql+psycopg://mlflow:very-secret@127.0.0.1:1/mlflow"
    key = "mlflow.backendStoreUriFrom"

    done = prepare(tmp_path, MLFLOW_BACKEND_STORE_URI=uri, PREPARE_DATABASE_KEY=key, PREPARE_TIMEOUT_SECONDS="5")
    message = (tmp_path / "termination-log").read_text()

    assert done.returncode == 1
    assert done.stderr.count("Retrying.") == 1
    assert message.startswith("The database postgresql+psycopg://mlflow:***@127.0.0.1:1/mlflow cannot be used: ")
    assert f"Connection refused. Check that it runs, that this pod may reach it, and {key}." in message
    assert "very-secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_tables_of_a_newer_mlflow_are_not_changed(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "mlflow.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of-tomorrow'")
        connection.commit()

    done = prepare(tmp_path)

    assert done.returncode == 1
    assert "A newer MLflow than that of this image" in (tmp_path / "termination-log").read_text()
    assert "Traceback" not in done.stderr
