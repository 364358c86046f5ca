"""Long tasks show a bar on a terminal, and occasional log lines in a pod."""

import os
import pty
import subprocess
import sys
import termios

WORK = """
import logging, sys, time
from training import progress
progress.SECONDS_PER_LINE = float(sys.argv[1])
logging.basicConfig(level=logging.INFO, format="%(message)s")
with progress.bar("fit", 4, "round") as shown:
    for number in range(4):
        time.sleep(0.15)  # the terminal is drawn ten times a second
        shown.advance(note=f"loss {number}")
"""


def test_bar_is_drawn_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", WORK, "0"], stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 4096):
                drawn += piece
        except OSError:  # how Linux reports that the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    assert b"fit:  25%" in drawn
    assert b"loss 2" in drawn
    assert b"fit: 1 of 4 round" not in drawn, "the bar shows the progress"


def test_without_a_terminal_log_lines_replace_the_bar() -> None:
    said = [
        subprocess.run([sys.executable, "-c", WORK, seconds], capture_output=True, text=True, check=True).stderr
        for seconds in ("0", "30")
    ]

    assert said[0].splitlines() == [f"fit: {number + 1} of 4 round loss {number}" for number in range(4)]
    assert said[1] == "", "work that is soon done is quiet"
