"""Log runs to an MLflow server with a few clients at once, and say which of them the server has acknowledged.

Standard library and MLflow's client of any version: `python3 log_runs.py URI CLIENTS RUNS EXPERIMENT`. Each run has a
parameter, two metrics and an artifact. A run that the server acknowledged to its end is a line of JSON: run_id, number,
sha256 of the artifact. What failed is a line on standard error. The last line has runs, seconds and runs per second.
"""

import hashlib
import json
import os
import random
import sys
import tempfile
import threading
import time

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

ARTIFACT_BYTES = 64 * 1024


def content(number: int) -> bytes:
    """Return the artifact of a run: the same bytes for the same number."""
    return random.Random(number).randbytes(ARTIFACT_BYTES)  # noqa: S311 - no secret


def log_run(client: MlflowClient, experiment_id: str, number: int, folder: str) -> dict[str, object]:
    """Log one run and return what must exist from now on."""
    run_id = client.create_run(experiment_id, run_name=f"run-{number}").info.run_id
    client.log_param(run_id, "number", number)
    for step, loss in enumerate((1 / (number + 1), 0.5)):
        client.log_metric(run_id, "loss", loss, step=step)
    path = os.path.join(folder, f"artifact-{number}.bin")
    with open(path, "wb") as file:
        file.write(content(number))
    client.log_artifact(run_id, path, "files")
    os.unlink(path)
    client.set_terminated(run_id)
    return {"run_id": run_id, "number": number, "sha256": hashlib.sha256(content(number)).hexdigest()}


def say(line: str) -> None:
    """Write a whole line at once: MLflow's client prints as well, from each thread."""
    os.write(1, f"{line}\n".encode())


def main(uri: str, clients: int, runs: int, experiment: str) -> None:
    """Run the clients to their end."""
    first = MlflowClient(uri)
    found = first.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else first.create_experiment(experiment)
    numbers, lock, logged = iter(range(runs)), threading.Lock(), 0
    started = time.monotonic()

    def work(folder: str) -> None:
        nonlocal logged
        client = MlflowClient(uri)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                said = json.dumps(log_run(client, experiment_id, number, folder))
            except (MlflowException, OSError) as error:
                print(f"run {number}: {error!r}"[:300], file=sys.stderr, flush=True)
                continue
            with lock:
                logged += 1
            say(said)

    with tempfile.TemporaryDirectory() as folder:
        threads = [threading.Thread(target=work, args=(folder,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - started
    say(json.dumps({"runs": logged, "seconds": round(seconds, 2), "per_second": round(logged / seconds, 2)}))


if __name__ == "__main__":
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_TRACKING_URI"] = sys.argv[1]  # an older client looks for the artifacts' server there
    sys.stdout = sys.stderr  # what MLflow prints all the same
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
