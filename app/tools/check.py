"""Checks of a running service over HTTP: `python -m app.tools.check ready|predict|release URL`.

`helm test` runs `release`, which checks a prediction, its effect on the metrics, and the OpenAPI document. The module
uses only the standard library, because the image's HEALTHCHECK starts it every few seconds.
"""

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from app import key_files

TIMEOUT_SECONDS = 10
TRIES = 10


class CheckError(Exception):
    """A failed check; the message is one sentence."""


def ready(url: str) -> Any:
    """Return the readiness of the service."""
    return _call(f"{url}/health/ready")


def model(url: str) -> Any:
    """Return the description of the served model."""
    return _call(f"{url}/model")


def predict(url: str) -> Any:
    """Return the response to the model's own input example, or to a row built from its signature."""
    return _call(f"{url}/predict", _example(url))


def release(url: str, metrics: str = "") -> Any:
    """Return a prediction, what was sent for it, the number of rows that the metrics counted, and the API's paths.

    Args:
        url: Address of the API.
        metrics: Address of the metrics of all pods, `http://<host>:<port>`, if they have a port of their own.
    """
    pages = _pages(metrics) if metrics else [f"{url}/metrics"]
    sent = "the input example" if model(url).get("input_example") else "a row built from the signature"
    return {
        "predict": predict(url),
        "sent": sent,
        "rows_counted": _rows_counted(url, pages),
        "paths": _described_paths(url),
    }


def _example(url: str) -> bytes:
    return json.dumps(request_of(model(url))).encode()


def request_of(described: dict[str, Any]) -> dict[str, Any]:
    """Return the input example of a model, or a row built from its signature, in split form."""
    return described.get("input_example") or row_of(described["signature"])


def row_of(signature: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a valid request for a model without an input example: the first category of a column, else a zero."""
    zeros: dict[str, Any] = {"boolean": False, "string": "", "datetime": "2026-01-31"}
    cells = [each["categories"][0] if each.get("categories") else zeros.get(each["type"], 0) for each in signature]
    return {"columns": [each["name"] for each in signature], "data": [cells]}


def _rows_counted(url: str, pages: list[str]) -> int:
    """Return the number of rows that the counters on the pages of metrics grew by with a prediction.

    A proxy in front of several pods may lead to a different one each time; then the check tries again.
    """
    for _ in range(TRIES):
        before = sum(map(_rows, pages))
        predict(url)
        after = sum(map(_rows, pages))
        if after > before:
            return after - before
    raise CheckError(f"{pages[0]} did not count a prediction: model_predictions_total stays at {after}.")


def _pages(metrics: str) -> list[str]:
    """Return the pages of metrics at all addresses of a host name, such as that of a headless Service: one per pod."""
    parts = urlsplit(metrics)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CheckError(f"{metrics} is unreachable: {error}.") from None
    family = found[0][0]  # a pod with addresses of both families must not count twice
    addresses = sorted({str(each[4][0]) for each in found if each[0] == family})
    form = "http://[{}]:{}/metrics" if family == socket.AF_INET6 else "http://{}:{}/metrics"
    return [form.format(address, parts.port) for address in addresses]


def _rows(page: str) -> int:
    """Return the number of predicted rows of all models on a page of metrics."""
    try:
        with urlopen(page, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - an address of `_pages` or `_call`
            lines = [
                line for line in response.read().decode().splitlines() if line.startswith("model_predictions_total{")
            ]
    except (OSError, HTTPException) as error:
        raise CheckError(f"{page} is unreachable: {error}.") from None
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))


def _described_paths(url: str) -> list[str]:
    """Return the paths of /openapi.json after checking its version, /predict, responses and references."""
    document = _call(f"{url}/openapi.json")
    wrong = next(_faults(document), None) if isinstance(document, dict) else "it is not an object"
    if wrong:
        raise CheckError(f"{url}/openapi.json is not valid: {wrong}.")
    return sorted(document["paths"])


def _faults(document: dict[str, Any]) -> Iterator[str]:
    paths, info = document.get("paths") or {}, document.get("info") or {}
    if not str(document.get("openapi", "")).startswith("3."):
        yield "it has no OpenAPI 3 version"
    if not (info.get("title") and info.get("version")):
        yield "info has no title or no version"
    if "post" not in paths.get("/predict", {}):
        yield "it does not describe POST /predict"
    yield from (
        f"{method.upper()} {path} has no responses"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in ("get", "post") and not operation.get("responses")
    )
    yield from (f"{reference} does not exist" for reference in _references(document) if not _leads(document, reference))


def _references(part: Any) -> Iterator[str]:
    """Yield each `$ref` of the document."""
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _leads(document: Any, reference: str) -> bool:
    """Return whether a JSON pointer refers to a part of the document."""
    start, *steps = reference.split("/")
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return start == "#"


def main(arguments: list[str] | None = None) -> int:
    """Run one check and print its result as JSON; on failure, print a sentence to stderr and return 1."""
    checks: dict[str, Callable[..., Any]] = {"ready": ready, "predict": predict, "release": release}
    parser = argparse.ArgumentParser(prog="python -m app.tools.check", description="Check a running service.")
    parser.add_argument("check", choices=checks)
    parser.add_argument("url", help="address of the service, such as http://localhost:8000")
    parser.add_argument("--metrics", help="for `release`: address of the metrics, if they have a port of their own")
    options = parser.parse_args(arguments)
    others = [options.metrics.rstrip("/")] if options.metrics else []
    try:
        answer = checks[options.check](options.url.rstrip("/"), *others)
    except CheckError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _call(url: str, body: bytes | None = None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise CheckError(f"{url} is not an http:// or https:// address.")
    headers = {"Content-Type": "application/json"} | _authorization()
    request = Request(url, body, headers)  # noqa: S310 - checked above
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return json.load(response)
    except HTTPError as error:
        with error:
            raise CheckError(f"{url} returns status {error.code}: {_reason(error)}") from None
    except (OSError, HTTPException) as error:
        raise CheckError(f"{url} is unreachable: {getattr(error, 'reason', error)}.") from None
    except ValueError:
        raise CheckError(f"{url} returns a response that is not JSON.") from None


def _authorization() -> dict[str, str]:
    """Return the header with an API key, if the settings of the service, which the check shares, require one."""
    folder = os.environ.get("MODEL_SERVICE_API_KEYS_DIR")
    if not folder:
        return {}
    try:
        found, _ = key_files.read(Path(folder))
    except OSError as error:
        raise CheckError(f"The API keys in {folder} cannot be read: {error.strerror}.") from None
    return {"Authorization": f"Bearer {next(iter(found.values()), '')}"}


def _reason(error: HTTPError) -> str:
    """Return the reason in a response of the service: the detail of a problem, or the reasons of /health."""
    try:
        answer = json.load(error)
        return str(answer.get("detail") or "; ".join(answer["reasons"]))
    except (ValueError, KeyError, AttributeError, OSError):
        return str(error.reason)


if __name__ == "__main__":
    sys.exit(main())
