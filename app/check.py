"""Check a running service from outside: `python -m app.check ready URL`, or `predict` or `release`.

`release` is what `helm test` runs: a prediction, metrics that move with it, and a sound description of the API.
Standard library only: the image's HEALTHCHECK starts it every few seconds.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from app import keys

TIMEOUT_SECONDS = 10
CONNECTIONS = 10


class CheckError(Exception):
    """The service did not do what it should; the text is one sentence."""


def ready(url: str) -> Any:
    """Return what the service says about its readiness."""
    return _call(f"{url}/health/ready")


def model(url: str) -> Any:
    """Return what the service says about its model."""
    return _call(f"{url}/model")


def predict(url: str) -> Any:
    """Return the answer to the model's own input example."""
    return _call(f"{url}/predict", _example(url))


def release(url: str) -> Any:
    """Return what was predicted, how far the metrics moved with it, and which paths the API describes."""
    return {"predict": predict(url), "rows_counted": _rows_counted(url), "paths": _described_paths(url)}


def _example(url: str) -> bytes:
    example = model(url).get("input_example")
    if not example:
        raise CheckError("The model was logged without an input example, so there is nothing to send.")
    return json.dumps(example).encode()


def _rows_counted(url: str) -> int:
    """Return by how many rows a pod's own counter moved with a prediction.

    Behind a Service each connection leads to some pod and stays with it, so one connection sees one pod's counter. A
    proxy may send its requests to several; then another connection is tried.
    """
    example, address = _example(url), urlsplit(url)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    headers = {"Content-Type": "application/json"} | _authorization()
    for _ in range(CONNECTIONS):
        connection = kind(address.netloc, timeout=TIMEOUT_SECONDS)
        try:
            rows = []
            for method, path, body in (
                ("GET", "/metrics", None),
                ("POST", "/predict", example),
                ("GET", "/metrics", None),
            ):
                connection.request(method, address.path + path, body, headers)
                with connection.getresponse() as response:
                    rows.append(_rows(response.read().decode()))
        except (OSError, HTTPException) as error:
            raise CheckError(f"{url} cannot be reached: {error}.") from None
        finally:
            connection.close()
        if rows[-1] > rows[0]:
            return rows[-1] - rows[0]
    raise CheckError(f"{url}/metrics did not move with a prediction: model_predictions_total stays at {rows[-1]}.")


def _rows(metrics: str) -> int:
    """Return the rows predicted, of all models, that a page of metrics counts."""
    lines = [line for line in metrics.splitlines() if line.startswith("model_predictions_total{")]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))


def _described_paths(url: str) -> list[str]:
    """Return the paths of /openapi.json, once it is whole: version, /predict, answers, references."""
    document = _call(f"{url}/openapi.json")
    wrong = next(_faults(document), None) if isinstance(document, dict) else "it is no object"
    if wrong:
        raise CheckError(f"{url}/openapi.json is not valid: {wrong}.")
    return sorted(document["paths"])


def _faults(document: dict[str, Any]) -> Iterator[str]:
    paths, info = document.get("paths") or {}, document.get("info") or {}
    if not str(document.get("openapi", "")).startswith("3."):
        yield "it names no OpenAPI 3 version"
    if not (info.get("title") and info.get("version")):
        yield "info has no title or no version"
    if "post" not in paths.get("/predict", {}):
        yield "it does not describe POST /predict"
    yield from (
        f"{method.upper()} {path} describes no answer"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in ("get", "post") and not operation.get("responses")
    )
    yield from (f"{reference} leads nowhere" for reference in _references(document) if not _leads(document, reference))


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
    """Say whether a JSON pointer leads to a part of the document."""
    start, *steps = reference.split("/")
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return start == "#"


def main(arguments: list[str] | None = None) -> int:
    """Run one check, print its answer as JSON, and return 1 with a sentence on stderr when it fails."""
    checks = {"ready": ready, "predict": predict, "release": release}
    parser = argparse.ArgumentParser(prog="python -m app.check", description="Check a running service.")
    parser.add_argument("check", choices=checks)
    parser.add_argument("url", help="where it is, such as http://localhost:8000")
    options = parser.parse_args(arguments)
    try:
        answer = checks[options.check](options.url.rstrip("/"))
    except CheckError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _call(url: str, body: bytes | None = None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise CheckError(f"{url} is no http:// or https:// address.")
    headers = {"Content-Type": "application/json"} | _authorization()
    request = Request(url, body, headers)  # noqa: S310 - checked above
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return json.load(response)
    except HTTPError as error:
        with error:
            raise CheckError(f"{url} answers {error.code}: {_reason(error)}") from None
    except (OSError, HTTPException) as error:
        raise CheckError(f"{url} cannot be reached: {getattr(error, 'reason', error)}.") from None
    except ValueError:
        raise CheckError(f"{url} answers with something that is no JSON.") from None


def _authorization() -> dict[str, str]:
    """Present a key where the service asks for one: the check runs beside it, with its settings and its Secret."""
    folder = os.environ.get("MODEL_SERVICE_API_KEYS_DIR")
    if not folder:
        return {}
    try:
        found, _ = keys.read(Path(folder))
    except OSError as error:
        raise CheckError(f"The API keys in {folder} cannot be read: {error.strerror}.") from None
    return {"Authorization": f"Bearer {next(iter(found.values()), '')}"}


def _reason(error: HTTPError) -> str:
    """Return the service's own words, of a problem or of /health."""
    try:
        answer = json.load(error)
        return str(answer.get("detail") or "; ".join(answer["reasons"]))
    except (ValueError, KeyError, AttributeError, OSError):
        return str(error.reason)


if __name__ == "__main__":
    sys.exit(main())
