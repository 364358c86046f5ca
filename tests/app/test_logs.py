"""All lines that the process writes are JSON, including warnings and crashes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.harness import process
from tools.loopback import until


def lines_of(program: str, tmp_path: Path, status: int) -> list[dict[str, Any]]:
    """Return the output of a program that has configured logging, on both streams."""
    start = "import logging, threading, warnings\nfrom app import logs\nlogs.configure('info')\n"
    with process(["-c", start + program], tmp_path / "log") as running:
        until(lambda: running.poll() is not None)
        assert running.returncode == status
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


@pytest.mark.parametrize(
    ("program", "message", "status"),
    [
        ("raise ValueError('geheim')", "the process crashed", 1),
        ("threading.Thread(target=lambda: int('geheim')).start()", "a thread crashed", 0),
    ],
)
def test_crash_is_one_line_without_the_exception_message(
    program: str, message: str, status: int, tmp_path: Path
) -> None:
    (line,) = lines_of(program, tmp_path, status)

    assert (line["level"], line["message"], line["exception"]) == ("critical", message, "ValueError")
    assert line["at"][-1].startswith("<string>:")
    assert "geheim" not in json.dumps(line)


def test_warning_is_one_line(tmp_path: Path) -> None:
    (line,) = lines_of("warnings.warn('this will change')", tmp_path, 0)

    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: this will change" in line["message"]


def test_multiline_message_is_one_line(tmp_path: Path) -> None:
    (line,) = lines_of(r"logging.info('one\ntwo %s', 'three', extra={'odd': {1, 2}})", tmp_path, 0)

    assert (line["message"], line["odd"]) == ("one\ntwo three", "{1, 2}")
