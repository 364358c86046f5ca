"""The digest of a model: one SHA-256 that covers every file which decides an answer.

It is the SHA-256 of the lines that `sha256sum` prints for these files, sorted by path. For an XGBoost model the files
are `METADATA_FILES` and the file that MLmodel names. A pyfunc model can read any file, so its digest covers all.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Literal

from app.errors import LoadError
from app.model.contract import CONTRACT_FILE

MLMODEL_FILE = "MLmodel"
EXAMPLE_FILE = "input_example.json"
METADATA_FILES = (MLMODEL_FILE, EXAMPLE_FILE, CONTRACT_FILE)

# Tags of a registered version: its digest, and the lines from which the digest is computed.
DIGEST_TAG = "sha256"
FILES_TAG = "file_digests"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_MOST_NAMED = 8  # files in an error message
_REMEDIES = {
    "pinned": "find out who changed it, or pin the digest you trust in model.sha256 (MODEL_SERVICE_MODEL_SHA256)",
    "registered": "find out who changed it, and register a new version",
}


class DigestError(LoadError):
    """The files of a model are not the expected ones."""


def lines_of(files: Mapping[str, str]) -> str:
    """Return the lines that `sha256sum` prints for files, given as digest by path."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a model, given as digest by path."""
    return hashlib.sha256(lines_of(files).encode()).hexdigest()


def files_of(lines: str) -> dict[str, str]:
    """Return the digest by path that `lines_of` wrote; other lines are ignored."""
    return {match[2]: match[1] for line in lines.splitlines() if (match := _LINE.fullmatch(line))}


def coverage(files: Mapping[str, str], model_file: str, expected: str) -> tuple[str, ...]:
    """Return the files that an expected digest covers, or () if the files do not match it.

    Args:
        files: Digest by path.
        model_file: Name of an XGBoost model's file; "" for other models.
        expected: Digest of all files, of an XGBoost model's deciding files, as training registers it, or of the model
            file alone, as earlier releases did.
    """
    everything = tuple(sorted(files))
    deciding = tuple(path for path in everything if path in (*METADATA_FILES, model_file))
    for paths in (everything, deciding) if model_file in files else (everything,):
        if digest_of({path: files[path] for path in paths}) == expected:
            return paths
    return (model_file,) if files.get(model_file) == expected else ()


def refusal(
    files: Mapping[str, str], expected: str, how: Literal["pinned", "registered"], recorded: Mapping[str, str]
) -> DigestError:
    """Return the error for a model that does not have the expected digest.

    Args:
        files: Digest of each file of the model.
        expected: The digest that the model should have.
        how: Origin of the expected digest.
        recorded: Digest of each file when the model was registered; empty if unknown. The error names what differs.
    """
    verb = "is" if how == "pinned" else "was"
    cause = f"its files have the sha256 {digest_of(files)}, but {expected} {verb} {how}"
    if recorded and digest_of(recorded) == expected:
        changes = [_change(path, files.get(path, ""), recorded.get(path, "")) for path in sorted({*files, *recorded})]
        detail = "; ".join(filter(None, changes))
    else:
        named = sorted(files.items())[:_MOST_NAMED]
        detail = ", ".join(f"{path} {digest[:12]}" for path, digest in named)
        detail += f" and {len(files) - len(named)} more" if len(files) > len(named) else ""
    return DigestError(f"{cause} ({detail})", _REMEDIES[how])


def _change(path: str, found: str, recorded: str) -> str:
    if found == recorded:
        return ""
    if not found:
        return f"{path} is missing"
    return f"{path} has {found[:12]} instead of {recorded[:12]}" if recorded else f"{path} was added"
