"""Supervisor of the worker: it starts the process of the model, ends it if a call takes too long, and restarts it.

The supervisor holds the socket, so that the service can connect while the model's process starts. It uses the standard
library only. A model whose C code never returns cannot delay it.
"""

from __future__ import annotations

import argparse
import math
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
HEALTHY_SECONDS = 60.0  # after which the next restart is immediate again
STUCK_SECONDS = 10.0  # for which the service waits in vain to be connected
CHECK_SECONDS = 1.0  # between two looks at the process, because its children may keep the pipe open
BACKLOG = 8


class Supervisor:
    """The supervisor of one model.

    Args:
        folder: The model in MLflow's format.
        path: Path of the Unix socket.
        message: File for the reason if the model cannot be loaded.
        end_seconds: Seconds after SIGTERM until the model's process is killed.
    """

    def __init__(self, folder: str, path: Path, message: Path, end_seconds: float = math.inf) -> None:
        self._folder = folder
        self._message = message
        self._end_seconds = end_seconds
        self._end_by = math.inf
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: float | None = None
        self._accepting = False
        self._failure = ""
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)  # the service may run as a different user; the folder belongs to the pod
        self._listener.listen(BACKLOG)

    def end(self, _: int, __: FrameType | None) -> None:
        """Let the model's process finish."""
        self._ending = True
        self._end_by = min(self._end_by, time.monotonic() + self._end_seconds)
        if self._process:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def run(self) -> int:
        """Run the model's process again and again, until SIGTERM or until the model cannot be loaded."""
        pause = FIRST_PAUSE_SECONDS
        while not self._ending:
            begin = time.monotonic()
            code = self._run_once()
            if self._failure:
                with suppress(OSError):
                    self._message.write_text(f"Cannot load the model: {self._failure}.\n")
                print(self._failure, file=sys.stderr, flush=True)
                return 1
            if self._ending:
                break
            if time.monotonic() - begin > HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            print(f"the model's process ended with {code}; it restarts in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return 0

    def _run_once(self) -> int:
        """Run the model's process until it ends, and return its exit status."""
        status, theirs = os.pipe()
        package = Path(__file__).resolve().parent
        files = [self._listener.fileno(), theirs]
        command = [sys.executable, "-m", f"{package.name}.serve", self._folder, *map(str, files)]
        self._deadline, self._accepting = None, False
        process = subprocess.Popen(command, cwd=package.parent, pass_fds=files, start_new_session=True)
        self._process = process
        os.close(theirs)
        if self._ending:  # the signal arrived before the process existed
            self.end(0, None)
        self._watch(process, status)
        os.close(status)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what the model started
        return process.wait()

    def _watch(self, process: subprocess.Popen[bytes], status: int) -> None:
        """Read the reports of the model's process until it ends, and end it when a deadline passes."""
        rest = b""
        waiting_since = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(status, selectors.EVENT_READ)
            while True:
                left = CHECK_SECONDS if self._deadline is None else self._deadline - time.monotonic()
                if time.monotonic() > self._end_by:
                    return
                if left <= 0:
                    print("a call took longer than its time limit; the model's process is killed", file=sys.stderr)
                    return
                if not selector.select(min(left, CHECK_SECONDS)):
                    if process.poll() is not None:
                        return
                    if not self._accepting or self._deadline or not select.select([self._listener], [], [], 0)[0]:
                        waiting_since = time.monotonic()
                    elif time.monotonic() - waiting_since > STUCK_SECONDS:
                        print("the model's process accepts no connection; it is killed", file=sys.stderr)
                        return
                    continue
                received = os.read(status, 4096)
                if not received:
                    return
                *lines, rest = (rest + received).split(b"\n")
                for line in lines:
                    self._note(line.decode("utf-8", "replace"))

    def _note(self, line: str) -> None:
        event, _, detail = line.partition(" ")
        if event == "begin":
            self._deadline = time.monotonic() + float(detail)
        elif event == "end":
            self._deadline = None
        elif event == "accepting":
            self._accepting = True
        elif event == "failed":
            self._failure = detail


def main() -> int:
    """Supervise the model's process, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run a model for the service, in the model's own environment.")
    parser.add_argument("--model", required=True, help="folder in MLflow's format")
    parser.add_argument("--socket", required=True, type=Path, help="path of the Unix socket to listen on")
    parser.add_argument("--message", type=Path, default=Path("/dev/termination-log"), help="file for the reason")
    parser.add_argument("--end-seconds", type=float, default=math.inf, help="seconds after SIGTERM until it is killed")
    options = parser.parse_args()
    supervisor = Supervisor(options.model, options.socket, options.message, options.end_seconds)
    signal.signal(signal.SIGTERM, supervisor.end)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
