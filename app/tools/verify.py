"""Contract tests of a model before its promotion: `python -m app.tools.verify models:/churn/7`.

The command starts the service in a separate process on the loopback interface and checks it over HTTP. A pod of this
image will behave in the same way. The result contains the model's sha256, which the promotion requires to be unchanged.

Exit codes: 0 all checks passed or `--result` was written, 1 the service could not be started, 2 invalid arguments, 3 a
check failed.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from app.tools import check
from app.tools.check import CheckError
from app.tools.local_worker import local_worker

REFUSED = 3
_PLAIN = ("double", "float", "long", "integer", "boolean", "string")  # types whose cells are not lists
WARM_UP = 20  # requests before the measurement


def main(arguments: list[str] | None = None) -> int:
    """Verify one model and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app.tools.verify", description="Test a model before it is promoted."
    )
    parser.add_argument("uri", nargs="?", default="", help="models:/<name>/<version> or file:///<folder>")
    parser.add_argument("--sha256", default="", help="required digest of the model; empty: any")
    parser.add_argument("--candidate", type=Path, help="file that `training train --result` wrote, with uri and sha256")
    parser.add_argument(
        "--python",
        type=Path,
        help="interpreter of an environment with the packages of a model of another flavor, whose code then runs",
    )
    parser.add_argument("--result", type=Path, help="file for the result; default: standard output")
    parser.add_argument("--requests", type=_positive, default=300, help="number of one-row predictions to time")
    parser.add_argument("--max-p99-ms", type=float, default=100.0, help="limit for their 99th percentile, in ms")
    parser.add_argument("--start-seconds", type=_positive, default=120, help="time limit for loading the model, in s")
    options = parser.parse_args(arguments)
    if bool(options.uri) == bool(options.candidate):
        parser.error("give either the URI of the model or --candidate")
    uri, sha256 = _candidate(parser, options.candidate) if options.candidate else (options.uri, options.sha256)
    if not re.fullmatch(r"models:/[^/@]+/[1-9][0-9]*|file:///.+", uri):
        parser.error(
            f"{uri} is neither models:/<name>/<version> nor file:///<folder>; an alias could move during verification"
        )
    try:
        result = verify(uri, sha256, options)
    except CheckError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps(result, indent=2) + "\n"
    for each in result["checks"]:
        sys.stderr.write(f"{'passed' if each['passed'] else 'FAILED'}  {each['name']}: {each['detail']}\n")
    if options.result:
        options.result.write_text(text, encoding="utf-8")
        return 0
    sys.stdout.write(text)
    return 0 if result["passed"] else REFUSED


def verify(uri: str, sha256: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all checks and return their results.

    Raises:
        CheckError: The service could not be started.
    """
    checks: list[dict[str, Any]] = []

    def checked(name: str, look: Callable[[], str]) -> None:
        try:
            checks.append({"name": name, "passed": True, "detail": look()})
        except CheckError as error:
            checks.append({"name": name, "passed": False, "detail": str(error)})

    model: dict[str, Any] = {}
    timed: dict[str, float] = {}
    with _service(uri, sha256, options.start_seconds, options.python) as (url, problem):
        if problem:
            checks.append({"name": "loads", "passed": False, "detail": problem})
        else:
            model = check.model(url)
            facts = (
                f"sha256 {model['sha256']}, {model['objective'] or model['flavor']}, {len(model['signature'])} columns"
            )
            checks.append({"name": "loads", "passed": True, "detail": facts})
            checked("predictions, metrics and OpenAPI", lambda: _release(url))
            checked("rejection of invalid input", lambda: _refusals(url, model))
            checked("latency", lambda: _latency(url, model, options, timed))
    return {
        "passed": all(each["passed"] for each in checks),
        "model": {"uri": uri, "sha256": model.get("sha256", "")},
        "service": model.get("service", {}),
        "checks": checks,
        "latency_ms": timed,
        "verified_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _candidate(parser: argparse.ArgumentParser, file: Path) -> tuple[str, str]:
    try:
        candidate = json.loads(file.read_bytes())
        return str(candidate["uri"]), str(candidate["sha256"])
    except OSError as error:
        parser.error(f"--candidate {file} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        parser.error(f"--candidate {file} is not JSON with uri and sha256: give the file that training wrote")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


@contextmanager
def _service(uri: str, sha256: str, seconds: int, python: Path | None) -> Iterator[tuple[str, str]]:
    """Run the service and yield its address with "" once it is ready, or with the reason why it exited.

    With `python`, the model is staged as in a pod, and a worker with this interpreter runs it.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as ended,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        port = probe.getsockname()[1]
        message = Path(folder, "message")
        changes = {
            "MODEL_SERVICE_MODEL_URI": uri,
            "MODEL_SERVICE_MODEL_SHA256": sha256,
            "MODEL_SERVICE_CACHE_DIR": folder,
            "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(message),
            "MODEL_SERVICE_LOAD_TIMEOUT_SECONDS": str(seconds),
            "MODEL_SERVICE_HOST": "127.0.0.1",
            "MODEL_SERVICE_PORT": str(port),
            "MODEL_SERVICE_API_KEYS_DIR": "",
            "MODEL_SERVICE_LOG_LEVEL": "warning",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        }
        probe.close()
        if python:
            changes["MODEL_SERVICE_MODEL_FLAVOR"] = "pyfunc"
            staged = subprocess.run(
                [sys.executable, "-m", "app.stage"], env=os.environ | changes, stdout=2, check=False
            )
            if staged.returncode:
                yield "", _reason(message, staged.returncode)
                return
            try:
                path = ended.enter_context(local_worker(Path(folder), python))
            except OSError as error:
                raise CheckError(f"--python: {python} cannot be started ({error.strerror}).") from None
            changes["MODEL_SERVICE_WORKER_SOCKET"] = str(path)
        command = [sys.executable, "-m", "app"]
        with subprocess.Popen(command, env=os.environ | changes, stdout=2) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                yield url, _wait(process, url, message, seconds)
            finally:
                process.terminate()


def _wait(process: subprocess.Popen[bytes], url: str, message: Path, seconds: int) -> str:
    """Return "" once the service is ready, or its termination message if it exits."""
    deadline = time.monotonic() + seconds + 30  # later than the service's own time limit
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise CheckError(f"The service neither became ready nor exited within {seconds + 30} s.")
        try:
            check.ready(url)
            return ""
        except CheckError:
            time.sleep(0.05)
    return _reason(message, process.returncode)


def _reason(message: Path, status: int) -> str:
    if not message.exists():
        raise CheckError(f"The service exited with status {status} without a reason; see its log.")
    return message.read_text(encoding="utf-8").strip()


def _release(url: str) -> str:
    found = check.release(url)
    count = len(found["predict"]["predictions"])
    return f"{count} {'row' if count == 1 else 'rows'}, sent {found['sent']}, {len(found['paths'])} paths"


def _refusals(url: str, model: dict[str, Any]) -> str:
    """Send invalid requests, and check that each error names the problem and its place."""
    bodies = _bad_bodies(model)
    with _connection(url) as post:
        for name, (status, body) in bodies.items():
            found, answer = post(body)
            if found != status:
                raise CheckError(f"A request with {name} returns status {found} instead of {status}.")
            if status == 422 and not answer.get("errors"):
                raise CheckError(f"A request with {name} is rejected without the place of the error.")
    return ", ".join(bodies)


def _bad_bodies(model: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
    """Return requests that must be rejected, by name, with the expected status."""
    example = check.request_of(model)
    record = dict(zip(example["columns"], example["data"][0], strict=True))
    unknown = "x".join(record) + "x"  # longer than any column name, so it is unknown
    wrong = {"an unknown column": record | {unknown: 1}}
    for column in model["signature"]:
        name = column["name"]
        if column["type"] in _PLAIN:
            wrong.setdefault("a list as a value", record | {name: [1]})
        if column.get("categories") and column.get("unknown_category") != "missing":
            wrong.setdefault("an unknown category", record | {name: unknown})
        if column["required"]:
            wrong.setdefault("a missing column", {k: v for k, v in record.items() if k != name})
    bodies = {name: (422, json.dumps({"instances": [each]}).encode()) for name, each in wrong.items()}
    return bodies | {"invalid JSON": (400, b"{")}


def _latency(url: str, model: dict[str, Any], options: argparse.Namespace, timed: dict[str, float]) -> str:
    """Measure the latency of sequential one-row predictions, in ms. This is a sanity check, not a benchmark."""
    example = check.request_of(model)
    body = json.dumps({"columns": example["columns"], "data": example["data"][:1]}).encode()
    took = []
    with _connection(url) as post:
        for _ in range(WARM_UP + options.requests):
            begin = time.perf_counter()
            post(body)
            took.append(1000 * (time.perf_counter() - begin))
    took = sorted(took[WARM_UP:])
    timed |= {f"p{share}": round(took[len(took) * share // 100], 3) for share in (50, 99)}
    sentence = f"p99 of {len(took)} one-row predictions is {timed['p99']:g} ms, the limit is {options.max_p99_ms:g} ms"
    if timed["p99"] > options.max_p99_ms:
        raise CheckError(sentence)
    return sentence


@contextmanager
def _connection(url: str) -> Iterator[Callable[[bytes], tuple[int, dict[str, Any]]]]:
    """Yield a function that posts a body to /predict and returns the status and the response."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=check.TIMEOUT_SECONDS)

    def post(body: bytes) -> tuple[int, dict[str, Any]]:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())

    try:
        yield post
    except (OSError, HTTPException, ValueError) as error:
        raise CheckError(f"The connection to the service broke: {error}.") from None
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
