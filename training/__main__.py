"""The command line: `python -m training <command> --help` lists the options of a command.

The last line of the output is JSON.

Exit codes: 0 success, 1 a retry can help, 2 a retry cannot help, 3 the gate refused, 130 stopped by Ctrl-C, 143 stopped
by SIGTERM. `training.errors` lists the errors of each code.
"""

import importlib
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from training.errors import RefusedError, ResourceError, Terminated, TrainingError
from training.memory import enough_memory

# The purpose of each command. The module of the same name contains the class `Options` and the function `run(options)`,
# which returns the JSON to print. It is imported only when it is called, because importing MLflow takes a second.
COMMANDS = {
    "train": "train a model, log the run and register a version",
    "promote": "move the alias to a version that passes the gate",
    "rollback": "move the alias back to the previous champion",
    "score": "score a data set to Parquet files with a registered model",
    "describe": "write the contract.json of a model that was logged elsewhere",
    "lock": "write a lock with hashes of a model's requirements",
    "image": "write a Dockerfile for a model's Python and packages",
    "reproduce": "retrain a version and compare the model files",
    "upload": "upload a finished run that could not be published",
    "ship": "turn the inference log of a pod into Parquet files",
    "erase": "delete the rows of one subject from an inference log",
}
USAGE = "usage: python -m training <command> [options]\n\n" + "".join(
    f"  {name:<10} {purpose}\n" for name, purpose in COMMANDS.items()
)

log = logging.getLogger("training")


def main(argv: Sequence[str]) -> int:
    """Run one command, and return its exit code."""
    if not argv or argv[0] not in COMMANDS:
        asked = bool(argv) and argv[0] in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(USAGE)
        return 0 if asked else 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the last error contains the cause of its retries
    try:
        command = importlib.import_module(f"training.commands.{argv[0]}")
        options = command.Options.load(argv[0], argv[1:])
        try:
            with enough_memory():
                code, answer = 0, command.run(options)
        except RefusedError as error:
            log.error("%s", error)
            code, answer = error.exit_code, error.answer
        line = json.dumps(answer)
        if options.result:
            _write(options.result, line)
    except TrainingError as error:
        log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("Stopped by Ctrl-C.")
        return 128 + signal.SIGINT
    except Terminated:
        log.error("Stopped by SIGTERM.")
        return 128 + signal.SIGTERM
    sys.stdout.write(line + "\n")
    return code


def _write(path: Path, line: str) -> None:
    try:
        path.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"--result (TRAINING_RESULT): {path} cannot be written ({error.strerror}).") from None


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave every context, so that the run of a stopped Job is marked KILLED and does not stay RUNNING."""
    raise Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))
