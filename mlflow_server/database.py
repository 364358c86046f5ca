"""The databases of the server: whether they answer, and their schema brought up to date by one pod at a time."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlflow.store.db.utils  # noqa: F401 - seconds of imports, which should not pass while the lock is held
import sqlalchemy
from alembic.util.exc import CommandError
from mlflow.db import commands
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from mlflow_server.errors import NotReadyError

CONNECT_SECONDS = 5
LOCK_PAUSE_SECONDS = 1.0
# Any number of our own: every pod of every release that shares a database asks for the same lock.
LOCK = 0x6D6C666C6F77

log = logging.getLogger(__name__)


def parse(uri: str, key: str) -> URL:
    """Return a database URI in its parts.

    Args:
        uri: as SQLAlchemy writes it.
        key: of the chart's values, for the error.

    Raises:
        NotReadyError: it is none, or asks for a driver that the image lacks. It is not repeated, as it may hold a
            password.
    """
    form = "postgresql+psycopg://<user>:<password>@<host>:5432/<database>"
    try:
        url = sqlalchemy.make_url(uri)
        url.get_dialect().import_dbapi()
        if "@" in (url.host or ""):
            raise ValueError("the end of a password stands where the host should")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        scheme = uri.partition(":")[0]
        raise NotReadyError(
            f"{key} starts with {scheme}://, for which this image has no driver: write {form} or sqlite:////<file>."
        ) from error
    except (ArgumentError, ValueError) as error:
        raise NotReadyError(
            f"{key} holds no database URI: write it as {form}, with special characters of the password percent-encoded."
        ) from error
    return url


def engine_of(url: URL) -> sqlalchemy.Engine:
    """Return an engine that keeps no connection open and does not wait long for one."""
    wait = {"connect_timeout": CONNECT_SECONDS} if url.get_backend_name() == "postgresql" else {}
    return sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=wait)


def bring_up_to_date(url: URL, key: str, migrate: Callable[[URL], None]) -> None:
    """Run a migration while no other pod does.

    Args:
        url: of the database.
        key: of the chart's values that holds the URL.
        migrate: `migrate_runs` or `migrate_users`.

    Raises:
        NotReadyError: the database cannot be had, or refuses; with its own words, in which there is no password.
    """
    where = url.render_as_string(hide_password=True)
    try:
        with only_one_pod(url):
            started = time.monotonic()
            migrate(url)
            log.info("%s is up to date, %.1f s", where, time.monotonic() - started)
    except CommandError as error:  # of Alembic, which does not know the revision that the tables have
        raise NotReadyError(
            f"The tables in {where} are of a newer MLflow than this image has ({error}): use its image again, or "
            "restore the database from its backup."
        ) from error
    except DBAPIError as error:
        said = str(error.orig).strip().partition("\n")[0].rstrip(".")
        raise NotReadyError(f"The database {where} cannot be used: {said}. {_remedy(said, key)}") from error


def _remedy(said: str, key: str) -> str:
    if "password authentication failed" in said or "no password supplied" in said:
        return f"Correct user and password in {key}."
    if "permission denied" in said:
        return f"The user in {key} makes and changes tables: grant it the schema, or make it the database's owner."
    if "does not exist" in said:
        return f"Create it, or correct {key}."
    if "unable to open database file" in said:
        return "Is the volume writable for this pod's user (podSecurityContext.fsGroup)?"
    return f"Is it up, may this pod reach it, and is {key} right?"


@contextmanager
def only_one_pod(url: URL) -> Iterator[None]:
    """Hold a PostgreSQL advisory lock, which ends with the connection, and so with the pod. SQLite has one pod only."""
    with engine_of(url).connect() as connection:
        if url.get_backend_name() != "postgresql":
            yield
            return
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        take = sqlalchemy.text("SELECT pg_try_advisory_lock(:lock)")
        waited = False
        while not connection.execute(take, {"lock": LOCK}).scalar_one():
            if not waited:
                log.info("another pod prepares the database; waiting for it")
            waited = True
            time.sleep(LOCK_PAUSE_SECONDS)
        yield


def migrate_runs(url: URL) -> None:
    """Do what `mlflow db upgrade` does: make the tables of runs and models, or bring them up to date."""
    commands.main(["upgrade", url.render_as_string(hide_password=False)], standalone_mode=False)


def migrate_users(url: URL) -> None:
    """Do the same for the tables of users and permissions."""
    from mlflow.server.auth.db.utils import migrate

    migrate(engine_of(url), "head")
