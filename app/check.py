"""Check a running service from outside: `python -m app.check ready URL` or `python -m app.check predict URL`.

Standard library only: the image's HEALTHCHECK starts it every few seconds.
"""

import argparse
import json
import os
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from app import keys

TIMEOUT_SECONDS = 10


class CheckError(Exception):
    """The service did not do what it should; the text is one sentence."""


def ready(url: str) -> Any:
    """Return what the service says about its readiness."""
    return _call(f"{url}/health/ready")


def predict(url: str) -> Any:
    """Return the answer to the model's own input example."""
    example = _call(f"{url}/model").get("input_example")
    if not example:
        raise CheckError("The model was logged without an input example, so there is nothing to send.")
    return _call(f"{url}/predict", json.dumps(example).encode())


def main(arguments: list[str] | None = None) -> int:
    """Run one check, print its answer as JSON, and return 1 with a sentence on stderr when it fails."""
    checks = {"ready": ready, "predict": predict}
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
