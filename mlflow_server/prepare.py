"""The preparation of an MLflow server before it starts: python -m mlflow_server.prepare

The init container of the chart waits for the databases and the artifact store, and migrates the schemas, one pod at a
time. It logs each problem with its remedy. After PREPARE_TIMEOUT_SECONDS, the last problem becomes the termination
message, and Kubernetes restarts the container with the current values of the Secrets.
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


def retry(step: Callable[[], None], until: float) -> None:
    """Repeat a step until it succeeds, and log each new problem once.

    Args:
        step: Raises NotReadyError while a dependency is missing.
        until: Time of time.monotonic() after which the last problem is raised.

    Raises:
        NotReadyError: The time is over.
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
                log.warning("%s Retrying.", reason)
        time.sleep(PAUSE_SECONDS)


def prepare() -> None:
    """Prepare the server.

    Raises:
        NotReadyError: A dependency is still missing when the time is over, or the environment of the pod is wrong.
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
        retry(partial(database.bring_up_to_date, *store), until)
    destination = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    retry(partial(artifacts.check, destination), until)
    log.info("artifacts are stored in %s", destination)


def main() -> int:
    """Run the preparation, and return the exit code."""
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
