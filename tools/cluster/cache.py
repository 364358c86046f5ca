"""Where built things live between runs, and the keys that say whether they are still the right ones."""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(
    os.environ.get("MODEL_SERVICE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "model-service"
)
LOGS = CACHE / "logs"


def files_of(paths: list[Path]) -> list[Path]:
    """Return the files at and below the given paths, sorted, without Python's caches."""
    found: set[Path] = set()
    for path in paths:
        found.update(path.rglob("*") if path.is_dir() else [path])
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def key_of(paths: list[Path], *words: str) -> str:
    """Return 12 hexadecimal digits that change with any file below `paths` (name or content) or any of the words."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files_of(paths):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
