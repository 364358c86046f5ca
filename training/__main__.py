"""`python -m training <command> --help` lists a command's options; the last line of its output is JSON.

Exit codes: 0 done, 1 MLflow is not there or refuses, 2 data, settings or a disk that cannot be used, 3 refused by a
gate, 130 stopped by Ctrl-C, 143 by SIGTERM.
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

# What a command is for. Its module, of the same name, has the class `Options` of its settings and `run(options)`,
# which returns what is printed; it is imported only when it is called, as MLflow alone takes a second.
COMMANDS = {
    "train": "train a model, log the run and register a version",
    "promote": "move the alias to a version that passes the gate",
    "rollback": "move the alias back to the champion before",
    "score": "score a data set to Parquet files with a registered model",
    "describe": "write the contract.json of a model that was logged elsewhere",
    "reproduce": "train a version again and compare the file",
    "upload": "bring a run to MLflow that was away when it ended",
}
USAGE = "usage: python -m training <command> [options]\n\n" + "".join(
    f"  {name:<10} {purpose}\n" for name, purpose in COMMANDS.items()
)

log = logging.getLogger("training")


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    if not argv or argv[0] not in COMMANDS:
        asked = bool(argv) and argv[0] in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(USAGE)
        return 0 if asked else 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries say nothing that the last error does not
    try:
        command = importlib.import_module(f"training.{argv[0]}")
        options = command.Options.load(argv[0], argv[1:])
        try:
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
    """End through every context, so that a stopped Job leaves a KILLED run, not one RUNNING for ever."""
    raise Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))
