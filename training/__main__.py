"""Run one training: settings, data, fit, publish. `python -m training --help` lists the options.

Exit codes: 0 registered, 1 MLflow is not there or refuses, 2 wrong settings, 143 stopped by SIGTERM.
"""

import json
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import FrameType

from pydantic import ValidationError
from pydantic_settings import CliApp

from training import data, fit
from training.publish import PublishError, publish, started_run
from training.settings import Settings

log = logging.getLogger("training")


def main(argv: Sequence[str]) -> int:
    """Train and register one model version; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries say nothing that the last error does not
    try:
        settings = CliApp.run(Settings, cli_args=list(argv))
    except ValidationError as error:
        log.error("%s", "; ".join(_problem(detail["loc"], detail["msg"]) for detail in error.errors()))
        return 2
    try:
        with started_run(settings) as run_id:
            dataset = data.load()
            split = data.split(dataset, settings.split_seed)
            fitted = fit.fit(dataset, split, settings)
            log.info("%d rounds on %s: %s", fitted.rounds, dataset.name, fitted.metrics)
            published = publish(run_id, dataset, split, fitted, settings)
    except PublishError as error:
        log.error("%s", error)
        return 1
    sys.stdout.write(json.dumps(asdict(published)) + "\n")
    return 0


def _problem(location: tuple[int | str, ...], message: str) -> str:
    """Name a wrong setting by its flag and its variable: a chart sets the one, a person the other."""
    field = str(location[0])
    return f"--{field.replace('_', '-')} ({Settings.variable(field)}): {message}"


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """End through the run's context, so that a stopped Job leaves a FAILED run, not one RUNNING for ever."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(sys.argv[1:]))
