"""Processes that outlive the command that started them: each has a log, an identity, and a way to end it."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.cluster.console import Failure

# Python warns of a child that outlives its handle; these are meant to.
_children: list[subprocess.Popen[bytes]] = []


def _born(pid: int) -> str:
    """Return when a process started, in clock ticks since boot ("" when gone): tells it from a reused number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


@dataclass(frozen=True)
class Daemon:
    """One background process, known by its name in the state folder. A changed command restarts it."""

    name: str
    command: list[str]
    state: Path

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.state / "log" / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.state / "run" / f"{self.name}.json"

    def _pid(self) -> int | None:
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return None
        return int(record["pid"]) if record["born"] == _born(record["pid"]) else None

    def current(self) -> bool:
        """Return whether it runs with this command."""
        return self.running() and bool(json.loads(self._record.read_text())["command"] == self.command)

    def running(self) -> bool:
        """Say whether the process that we started is still that process."""
        return self._pid() is not None

    def start(self) -> None:
        """Start it unless it runs with this command.

        Raises:
            Failure: it ended at once; with the end of its log.
        """
        if self.current():
            return
        self.stop()
        for folder in (self.log.parent, self._record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        _children.append(process)
        record = {"pid": process.pid, "born": _born(process.pid), "command": self.command}
        self._record.write_text(json.dumps(record))
        time.sleep(0.2)
        if process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise Failure(
                f"{self.name} ended at once with status {process.returncode}:\n{tail}\n(all of it: {self.log})"
            )

    def stop(self, seconds: float = 10) -> None:
        """End it politely, and for certain after `seconds`."""
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.1)
            if self.running():
                os.kill(pid, signal.SIGKILL)
                while self.running():
                    time.sleep(0.05)
        self._record.unlink(missing_ok=True)
