"""What a person sees: named steps with their times, a sign of life while they wait, and failures that say what to do.

Owns the terminal. Everything else raises `Failure` and never prints an error itself.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_SECONDS = 15.0

_durations: dict[str, float] = {}
_output = threading.Lock()


class Failure(Exception):  # noqa: N818 - the word a person reads
    """A step that cannot go on; its text is one sentence and the remedy."""


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
    return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest)


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
        Failure: it ended with another status than 0, ran too long or is not there; with its last lines and the remedy.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name + (f" {words[1]}" if len(words) > 1 and not words[1].startswith("-") else "")
    try:
        if log is None:
            done = subprocess.run(
                words,
                input=stdin,
                text=True,
                capture_output=True,
                env=env,
                cwd=cwd,
                timeout=timeout_seconds,
                check=False,
            )
            printed = done.stderr or done.stdout
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as stream:
                done = subprocess.run(
                    words, input=stdin, text=True, stdout=stream, stderr=subprocess.STDOUT, env=env, cwd=cwd,
                    timeout=timeout_seconds, check=False,
                )  # fmt: skip
            printed = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) + f"\n(all of it: {log})"
    except FileNotFoundError as error:
        raise Failure(f"{words[0]} is not installed. {remedy or 'Install it and run again.'}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{name} did not end within {timeout_seconds:.0f} s. {remedy}".strip()) from error
    if done.returncode != 0:
        raise Failure(f"{name} failed with status {done.returncode}:\n{printed.strip()}\n{remedy}".rstrip())
    return done.stdout or ""


def wait_for(what: str, probe: Callable[[], object], *, timeout_seconds: float, remedy: str) -> None:
    """Call `probe` each half second until it returns something true.

    Raises:
        Failure: it did not within `timeout_seconds`; carries the last failure that the probe raised.
    """
    deadline, last = time.monotonic() + timeout_seconds, ""
    while time.monotonic() < deadline:
        try:
            if probe():
                return
        except Failure as failure:
            last = f" Last answer: {failure}"
        time.sleep(0.5)
    raise Failure(f"{what}: not within {timeout_seconds:.0f} s.{last} {remedy}")
