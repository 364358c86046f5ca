"""The process that runs the model: it loads the model with MLflow and answers one request at a time.

It logs where an exception was raised without the exception's message, which may contain values from a request.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from . import packages, tables, wire
from .wire import Block

MEMORY_SECONDS = 1.0  # between two measurements of the process's memory
# Functions of MLflow in which an exception means that the input does not fit the model's signature.
_ENFORCING = frozenset({"_enforce_schema", "_validate_prediction_input", "_enforce_params_schema"})

Answer = tuple[dict[str, Any], tuple[Block, ...]]


class FailedError(Exception):
    """The model cannot be loaded; the message is a sentence for the operator."""


class Server:
    """The model and its connection to the service.

    Args:
        folder: The model in MLflow's format.
        listener: Socket on which the service connects.
        report: Called with each line for the supervising process.
    """

    def __init__(self, folder: Path, listener: socket.socket, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._listener = listener
        self._report = report
        self._model: Any = None
        self._connected = self._ending = False
        self._memory, self._measured = 0, 0.0

    def end(self, _: int, __: FrameType | None) -> None:
        """Exit, after the service has closed its connection: it is still answering requests."""
        self._ending = True
        if not self._connected:
            sys.exit(0)

    def run(self) -> None:
        """Serve one connection after the other."""
        facts = {"version": wire.VERSION, "process": os.getpid(), **packages.versions()}
        facts["mismatches"] = packages.mismatches(self._folder)
        self._report("accepting")
        while not self._ending:
            connection, _ = self._listener.accept()
            self._connected = True
            with connection:
                try:
                    wire.send(connection, facts)
                    while True:
                        header, blocks = wire.receive(connection)
                        answer, columns = self._answer(header, blocks)
                        wire.send(connection, {**answer, "memory": self._resident()}, columns)
                        if answer.get("failure") == "load":
                            raise FailedError(answer["why"])
                except (EOFError, OSError, wire.GarbageError) as error:
                    print(f"the service disconnected: {error}", flush=True)
            self._connected = False

    def _answer(self, header: dict[str, Any], blocks: tuple[Block, ...]) -> Answer:
        operation = header.get("do")
        if operation == "load":
            return self._limited(header, self._loaded)
        if operation == "predict":
            return self._limited(header, lambda: self._predicted(header, blocks))
        return {}, ()

    def _limited(self, header: dict[str, Any], work: Callable[[], Answer]) -> Answer:
        """Do the work; the supervising process ends this one if it takes longer than the header allows."""
        self._report(f"begin {header['seconds']}")
        try:
            return work()
        finally:
            self._report("end")

    def _loaded(self) -> Answer:
        if self._model is None:
            try:
                self._model = self._load()
            except FailedError as failure:
                return {"failure": "load", "why": str(failure)}, ()
        return {}, ()

    def _load(self) -> Any:
        begin = time.monotonic()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            import mlflow.pyfunc

            model = mlflow.pyfunc.load_model(str(self._folder))
        except ModuleNotFoundError as error:
            traceback.print_exc()
            raise FailedError(f"it requires the package {error.name}, which its environment does not have") from None
        except Exception as error:
            traceback.print_exc()
            raise FailedError(f"MLflow cannot load it ({type(error).__name__})") from None
        gc.collect()
        gc.freeze()  # these objects stay for the lifetime of the process
        print(f"loaded in {time.monotonic() - begin:.1f} s", flush=True)
        return model

    def _predicted(self, header: dict[str, Any], blocks: tuple[Block, ...]) -> Answer:
        rows = header["rows"]
        parameters = {name: _parameter(value) for name, value in header["parameters"].items()}
        try:
            values = tables.given(blocks, header["input"], header["order"], rows)
            answer = self._model.predict(values, params=parameters) if parameters else self._model.predict(values)
            return {}, tables.returned(answer, rows)
        except tables.OutputError as error:
            return {"failure": "output", "why": str(error)}, ()
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            if any(frame.name in _ENFORCING for frame in frames):
                return {"failure": "input", "why": type(error).__name__}, ()
            places = "".join(f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in frames)
            print(f"the model raised {type(error).__name__} for {rows} rows\n{places}", file=sys.stderr, flush=True)
            return {"failure": "model", "why": type(error).__name__}, ()

    def _resident(self) -> int:
        """Return the memory of this process in bytes, measured at most once per second."""
        now = time.monotonic()
        if now - self._measured > MEMORY_SECONDS:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._memory, self._measured = pages * resource.getpagesize(), now
        return self._memory


def _parameter(value: Any) -> Any:
    return datetime.fromisoformat(value["datetime"]) if isinstance(value, dict) else value


def main(folder: str, listener: int, status: int) -> int:
    """Run the model until the service and the supervising process are done.

    Args:
        folder: The model in MLflow's format.
        listener: File descriptor of the socket.
        status: File descriptor of the pipe to the supervising process.
    """
    sys.path.pop(0)  # so that the model's code cannot import this folder by accident
    os.chdir(tempfile.gettempdir())

    def report(line: str) -> None:
        os.write(status, f"{line}\n".encode())

    server = Server(Path(folder), socket.socket(fileno=listener), report)
    signal.signal(signal.SIGTERM, server.end)
    try:
        server.run()
    except FailedError as failure:
        report(f"failed {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
