"""A training that is killed at any moment leaves no version or a complete one, and no run stays RUNNING."""

import functools
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.model.digest import DIGEST_TAG, digest_of
from app.model.files import ModelFiles
from tests.training.conftest import Result, Server
from training.tracking import manifest
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.runs import _ended, _process

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
QUICK = ("--rounds=3", "--early-stopping-rounds=0", "--trials=1")
KILLS = 10


class Between(ThreadingHTTPServer):
    """A proxy between a training and MLflow that kills the training at a request, before or after its response.

    Args:
        target: Address of MLflow.
        fatal: Returns whether a request is the last one, by its number from 1 and its path.
        answered: Whether MLflow has handled this request when the process is killed.
    """

    daemon_threads = True

    def __init__(self, target: str, fatal: Callable[[int, str], bool], *, answered: bool) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.target, self.fatal, self.answered = urlsplit(target).netloc, fatal, answered
        self.process: subprocess.Popen[bytes] | None = None
        self.count = 0
        self.lock = Lock()

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Between

    def handle_one(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with server.lock:
            server.count += 1
            last = server.fatal(server.count, self.path)
        if last and not server.answered:
            return server.kill()
        connection = http.client.HTTPConnection(server.target, timeout=300)
        connection.request(self.command, self.path, body, {**self.headers, "Host": server.target})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if last:
            return server.kill()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 - names of the base class

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests free of requests."""


@contextmanager
def between(server: Server, fatal: Callable[[int, str], bool], *, answered: bool) -> Iterator[Between]:
    with Between(server.uri, fatal, answered=answered) as proxy:
        thread = Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def killed(server: Server, name: str, fatal: Callable[[int, str], bool], *, answered: bool) -> tuple[int, int]:
    """Train behind a proxy, and return the exit code of the process and the number of its requests."""
    with between(server, fatal, answered=answered) as proxy:
        at = f"--mlflow-tracking-uri=http://127.0.0.1:{proxy.server_port}"
        command = [sys.executable, "-m", "training", "train", at, f"--model-name={name}", *QUICK]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            proxy.process = process
            code = process.wait(300)
        return code, proxy.count


def check_registry(server: Server, name: str) -> int:
    """Check that each version is complete, and that no run is RUNNING. Return the number of versions."""
    versions = server.client.search_model_versions(f"name = '{name}'")
    for each in versions:
        files = ModelFiles(server.model_folder(name, str(each.version)), to_load=False).digests()
        assert each.tags[DIGEST_TAG] == digest_of(files)
        assert {"task", "target", "file_digests"} <= each.tags.keys()
        with mlflow_at(server.uri):
            assert manifest.read(server.client, str(each.run_id)).rounds == 3
        assert server.client.get_run(str(each.run_id)).info.status == "FINISHED"
    experiment = server.client.get_experiment_by_name(name)
    assert experiment
    assert not server.client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    return len(versions)


def test_training_that_is_killed_with_its_version_leaves_a_complete_one(
    server: Server, run: Callable[..., Result]
) -> None:
    def registers(_: int, path: str) -> bool:
        return path.endswith("/model-versions/create")

    code, _ = killed(server, "killed", registers, answered=True)
    assert code == -signal.SIGKILL

    assert run(f"--mlflow-tracking-uri={server.uri}", "--model-name=killed", *QUICK).published["version"] == "2"

    assert check_registry(server, "killed") == 2


def _is(wanted: int, number: int, _: str) -> bool:
    return number == wanted


@pytest.mark.long
def test_training_that_is_killed_at_ten_moments_leaves_nothing_or_complete_versions(
    server: Server, run: Callable[..., Result]
) -> None:
    code, requests = killed(server, "killed-often", lambda *_: False, answered=True)
    assert code == 0
    for i in range(KILLS):
        last = 2 + i * (requests - 2) // (KILLS - 1)
        code, _ = killed(server, "killed-often", functools.partial(_is, last), answered=i % 2 == 1)
        assert code == -signal.SIGKILL

    assert run(f"--mlflow-tracking-uri={server.uri}", "--model-name=killed-often", *QUICK).code == 0

    assert check_registry(server, "killed-often") >= 2


def test_process_is_recognized_after_its_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = _process(process.pid)
        assert not _ended(known)
        process.kill()
    assert _ended(known)
    assert not _ended(_process(os.getpid()))
    assert not _ended("another-machine " + known.partition(" ")[2]), "its processes cannot be seen from here"
    assert not _ended("")
