"""What a person sees: named steps with their times, a sign of life while they wait, and failures that say what to do.

Owns the terminal. Everything else raises `Failure` and never prints an error itself.
"""

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

HEARTBEAT_SECONDS = 15.0
_STOPPED = "Stopped, because another step failed."

_durations: dict[str, float] = {}
_output = threading.Lock()
_running: set[subprocess.Popen[str]] = set()
_aborted = threading.Event()


class Failure(Exception):  # noqa: N818 - the word a person reads
    """A step that cannot continue; its text is one sentence and the remedy."""


def say(text: str) -> None:
    """Print one line at once, whole even when steps run side by side."""
    with _output:
        print(text, flush=True)


def _last_line(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        lines = stream.read().decode(errors="replace").split("\n")
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" | {text[:90]}"


@contextmanager
def step(name: str, log: Path | None = None) -> Iterator[None]:
    """Name a piece of work, show that it lives every 15 s, and record how many seconds it took.

    Args:
        name: what it does, in a few words.
        log: a file that grows meanwhile; its last line is shown with each sign of life.
    """
    say(f"  …  {name}")
    started, done = time.monotonic(), threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"  …  {name} ({time.monotonic() - started:.0f} s){_last_line(log)}")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    except BaseException:
        say(f"  ✗  {name} ({time.monotonic() - started:.1f} s)")
        raise
    finally:
        done.set()
    _durations[name] = time.monotonic() - started
    say(f"  ✓  {name} ({_durations[name]:.1f} s)")


def summary() -> str:
    """Return the longest steps and how long each took, in seconds."""
    longest = sorted(_durations.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest if seconds >= 1)


def run(
    command: Sequence[object],
    *,
    log: Path | None = None,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_seconds: float = 600,
    remedy: str = "",
) -> str:
    """Run a program to its end and return what it wrote to standard output ("" when that goes to a log).

    Raises:
        Failure: The command exited non-zero, timed out or does not exist; with its last lines and the remedy.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name + (f" {words[1]}" if len(words) > 1 and not words[1].startswith("-") else "")
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") if log else tempfile.TemporaryFile("w+") as errors:
        process = _start(words, errors, subprocess.PIPE if log is None else errors, env, cwd, remedy)
        try:
            printed, _ = process.communicate(stdin, timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{name} did not end within {timeout_seconds:.0f} s. {remedy}".strip()) from error
        finally:
            _running.discard(process)
            if process.poll() is None:
                process.kill()
                process.communicate()
        if process.returncode == 0:
            return printed or ""
        if log is None:
            errors.seek(0)
            said = errors.read() or printed
        else:
            said = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) + f"\n(all of it: {log})"
    raise Failure(f"{name} failed with status {process.returncode}:\n{said.strip()}\n{remedy}".rstrip())


def _start(
    words: list[str],
    errors: IO[str],
    output: int | IO[str],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    remedy: str,
) -> subprocess.Popen[str]:
    if _aborted.is_set():
        raise Failure(_STOPPED)
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True, env=env, cwd=cwd
        )
    except FileNotFoundError as error:
        raise Failure(f"{words[0]} is not installed. {remedy or 'Install it and run again.'}") from error
    _running.add(process)
    return process


def abort() -> None:
    """End the programs that `run` waits for, and start no more: another step has failed, and waiting would hide it."""
    _aborted.set()
    for process in list(_running):
        process.terminate()


def wait_for(what: str, probe: Callable[[], object], *, timeout_seconds: float, remedy: str) -> None:
    """Call `probe` until it returns something true: each half second, later more rarely, because probes cost CPU.

    Raises:
        Failure: it did not within `timeout_seconds`, with the last failure of the probe; or another step failed.
    """
    started, last = time.monotonic(), ""
    while (waited := time.monotonic() - started) < timeout_seconds:
        try:
            if probe():
                return
        except Failure as failure:
            last = f" Last answer: {failure}"
        if _aborted.wait(min(max(0.5, waited / 10), 3)):
            raise Failure(_STOPPED)
    raise Failure(f"{what}: not within {timeout_seconds:.0f} s.{last} {remedy}")
