"""The databases of the server: connection, and migration of the schema by one pod at a time."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlflow.store.db.utils  # noqa: F401 - slow imports, which must not happen while the lock is held
import sqlalchemy
from alembic.util.exc import CommandError
from mlflow.db import commands
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from mlflow_server.errors import NotReadyError

CONNECT_SECONDS = 5
LOCK_PAUSE_SECONDS = 1.0
# An arbitrary number: all pods of all releases that share a database use the same lock.
LOCK = 0x6D6C666C6F77
_TAKE_LOCK = {
    "postgresql": "SELECT pg_try_advisory_lock(:lock)",
    "mysql": "SELECT GET_LOCK(concat('mlflow-', :lock), 0)",
}

log = logging.getLogger(__name__)


def parse(uri: str, key: str) -> URL:
    """Return the parsed URI of a database.

    Args:
        uri: URI in the format of SQLAlchemy.
        key: Key of the chart's values, for the error.

    Raises:
        NotReadyError: The URI is not valid, or the image does not contain its driver. The message does not contain the
            URI, which may include a password.
    """
    form = "postgresql+psycopg://<user>:<password>@<host>:5432/<database>"
    try:
        url = sqlalchemy.make_url(uri)
        url.get_dialect().import_dbapi()
        if "@" in (url.host or ""):
            raise ValueError("the host contains the end of a password")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        scheme = uri.partition(":")[0]
        raise NotReadyError(
            f"{key} starts with {scheme}://, for which this image has no driver: use {form}, the same with "
            "mysql+pymysql, or sqlite:////<file>."
        ) from error
    except (ArgumentError, ValueError) as error:
        raise NotReadyError(
            f"{key} is not a database URI: use {form}, with special characters of the password percent-encoded."
        ) from error
    return url


def engine_of(url: URL) -> sqlalchemy.Engine:
    """Return an engine without a connection pool and with a short connection timeout."""
    wait = {} if url.get_backend_name() == "sqlite" else {"connect_timeout": CONNECT_SECONDS}
    return sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=wait)


def bring_up_to_date(url: URL, key: str, migrate: Callable[[URL], None]) -> None:
    """Run a migration while no other pod does.

    Args:
        url: URL of the database.
        key: Key of the chart's values that contains the URL.
        migrate: `migrate_runs` or `migrate_users`.

    Raises:
        NotReadyError: The database is unreachable or refuses. The message contains its error, without a password.
    """
    where = url.render_as_string(hide_password=True)
    try:
        with only_one_pod(url):
            started = time.monotonic()
            migrate(url)
            log.info("%s is up to date, %.1f s", where, time.monotonic() - started)
    except CommandError as error:  # Alembic does not know the revision of the tables
        raise NotReadyError(
            f"A newer MLflow than that of this image migrated the tables in {where} ({error}): use the newer image, or "
            "restore the database from its backup."
        ) from error
    except DBAPIError as error:
        said = error.orig.args[-1] if error.orig and error.orig.args else error.orig  # PyMySQL has a number in front
        reason = str(said).strip().partition("\n")[0].rstrip(".")
        raise NotReadyError(f"The database {where} cannot be used: {reason}. {_remedy(reason, key)}") from error


def _remedy(reason: str, key: str) -> str:
    if "password authentication failed" in reason or "no password supplied" in reason or "(using password" in reason:
        return f"Correct user and password in {key}."
    if any(said in reason for said in ("permission denied", "Access denied", "command denied")):
        return (
            f"The user in {key} creates and alters tables: grant it the schema, or make it the owner of the database."
        )
    if "does not exist" in reason or "Unknown database" in reason:
        return f"Create it, or correct {key}."
    if "unable to open database file" in reason:
        return "Make the volume writable for the user of this pod (pod.securityContext.fsGroup)."
    return f"Check that it runs, that this pod may reach it, and {key}."


@contextmanager
def only_one_pod(url: URL) -> Iterator[None]:
    """Hold a lock of the database, which ends with the connection of the pod. SQLite is used by one pod only."""
    with engine_of(url).connect() as connection:
        if url.get_backend_name() == "sqlite":
            yield
            return
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        take = sqlalchemy.text(_TAKE_LOCK[url.get_backend_name()])
        waited = False
        while not connection.execute(take, {"lock": LOCK}).scalar_one():
            if not waited:
                log.info("another pod prepares the database; waiting for it")
            waited = True
            time.sleep(LOCK_PAUSE_SECONDS)
        yield


def migrate_runs(url: URL) -> None:
    """Create or migrate the tables of runs and models, as `mlflow db upgrade` does."""
    commands.main(["upgrade", url.render_as_string(hide_password=False)], standalone_mode=False)


def migrate_users(url: URL) -> None:
    """Create or migrate the tables of users and permissions."""
    from mlflow.server.auth.db.utils import migrate

    migrate(engine_of(url), "head")
