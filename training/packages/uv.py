"""Calls of uv, and its failures as sentences with a remedy."""

import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uv

from training.errors import InputError, ResourceError, TrainingError

_SECONDS = 1800
_REASON_CHARACTERS = 400

log = logging.getLogger("training")


def run(arguments: Sequence[str | Path], *, allow_source: bool = False) -> str:
    """Run uv, and return its standard output.

    Args:
        arguments: Command and options.
        allow_source: Build packages that have no wheel, which runs code of the package.

    Raises:
        InputError: The requirements cannot be met.
        ResourceError: There is no disk space or permission.
        TrainingError: The package index is unreachable or fails.
    """
    command = [uv.find_uv_bin(), "--color", "never", *map(str, arguments)]
    if not allow_source and arguments[0] == "pip":
        command += ["--only-binary", ":all:"]
    # The environment that runs this command is not the one to look at.
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    try:
        done = subprocess.run(
            command, env=kept, cwd=tempfile.gettempdir(), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"uv did not finish within {_SECONDS} s: check the connection to the index.") from None
    if done.returncode:
        raise failure(done.stderr)
    return done.stdout


def failure(text: str) -> TrainingError:
    """Return the error for the messages of a failed call."""
    reason = _reason(text)
    if found := re.search(r"Because (\S+) has no usable wheels", text):
        return InputError(
            f"{found[1]} has no wheel for this Python and platform: require a version that has one, log the model "
            "with a different Python, or use --allow-source, which runs code of the package."
        )
    if re.search(r"Status code: 40[13]|\b40[13] (Unauthorized|Forbidden)", text):
        return InputError(
            f"The package index rejects the credentials ({reason}): set them in UV_DEFAULT_INDEX or a netrc."
        )
    if "Failed to fetch" in text or "error sending request" in text or "network was disabled" in text:
        return TrainingError(
            f"The package index cannot be reached ({reason}): check the network, and set UV_DEFAULT_INDEX for a mirror."
        )
    if found := re.search(r"Because (\S+) was not found in the (package registry|provided package locations)", text):
        return InputError(
            f"The index has no package {found[1]}: correct the model's requirements.txt, or set UV_DEFAULT_INDEX to "
            "the index that has it."
        )
    if "No solution found" in text:
        return InputError(f"The requirements cannot be met: {reason} Correct the model's requirements.txt.")
    if found := re.search(r"No interpreter found for Python (\S+)|No download found for request: \S*?(3\.\d+)", text):
        version = (found[1] or found[2]).rstrip(",")
        return InputError(
            f"Python {version} was not found: install it, or name an interpreter that has the model's packages with "
            "--model-python."
        )
    if "No space left on device" in text or "Permission denied" in text:
        return ResourceError(f"The packages cannot be written ({reason}).")
    if "Couldn't parse requirement" in text or "is invalid" in text:
        return InputError(f"A line of the model's requirements.txt is not a requirement: {reason}")
    return InputError(f"uv failed: {reason}")


def _reason(text: str) -> str:
    """Return the causes that uv names, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("error:")), 0)
    causes = [line.removeprefix("cause: ") for line in lines[start:] if line.startswith("cause: ")]
    found = causes or [line.removeprefix("error: ") for line in lines[start : start + 1]] or ["no message"]
    known = found[0] if len(found) == 1 else f"{found[0]}: {found[-1]}"
    return _without_credentials(known)[:_REASON_CHARACTERS]


def _without_credentials(text: str) -> str:
    return re.sub(r"(https?://)[^/@\s]+@", r"\1", text)
