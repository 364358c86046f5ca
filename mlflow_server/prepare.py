"""Get ready what an MLflow server needs before it starts: python -m mlflow_server.prepare

The init container of the chart. It waits for databases and artifact store, brings the schemas up to date, one pod at a
time, and ends. While something is missing it says so, each time with what to do; after PREPARE_TIMEOUT_SECONDS it gives
up with that sentence as the termination message, and Kubernetes starts it again, with what the Secrets hold by then.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlflow_server import artifacts, auth, database
from mlflow_server.errors import NotReadyError, leave_message

PAUSE_SECONDS = 2.0

log = logging.getLogger("mlflow_server")


def patiently(step: Callable[[], None], until: float) -> None:
    """Repeat a step until it works; each new reason why it does not is logged once.

    Args:
        step: raises NotReadyError while something is missing.
        until: the time of time.monotonic() after which the last reason is raised.

    Raises:
        NotReadyError: there is no time left.
    """
    reason = ""
    while True:
        try:
            step()
            return
        except NotReadyError as missing:
            if time.monotonic() > until:
                raise
            if str(missing) != reason:
                reason = str(missing)
                log.warning("%s Trying again.", reason)
        time.sleep(PAUSE_SECONDS)


def prepare() -> None:
    """Do all of it.

    Raises:
        NotReadyError: something is still missing when the time is over, or can only change with the pod's environment.
    """
    until = time.monotonic() + float(os.environ.get("PREPARE_TIMEOUT_SECONDS", "120"))
    runs_key = os.environ.get("PREPARE_DATABASE_KEY", "mlflow.backendStoreUri")
    runs = database.parse(os.environ["MLFLOW_BACKEND_STORE_URI"], runs_key)
    stores = [(runs, runs_key, database.migrate_runs)]
    if settings := os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        own = os.environ.get("AUTH_DATABASE_URI")
        users = auth.write_settings(Path(settings))
        key = "auth.databaseUriFrom" if own else runs_key
        stores.append((database.parse(users, key), key, database.migrate_users))
    for store in stores:
        patiently(partial(database.bring_up_to_date, *store), until)
    destination = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    patiently(partial(artifacts.check, destination), until)
    log.info("artifacts go to %s", destination)


def main() -> int:
    """Run as a program and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        prepare()
    except NotReadyError as missing:
        log.error("%s", missing)
        leave_message(str(missing))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
