"""API key authentication: `Authorization: Bearer <key>`.

The valid keys are the current files of the folder, which is read at most once a second while requests arrive. A removed
key is rejected from then on, even if it was the last one, because an operator removed it on purpose. Only if the folder
cannot be read do the keys stay as they were.
"""

import hashlib
import hmac
import logging
import time
from pathlib import Path

from app import key_files

REFRESH_SECONDS = 1.0

log = logging.getLogger(__name__)


class Keys:
    """The digests of the keys in a folder.

    Args:
        folder: Folder with one key per file; the file name is the name of the client.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, bytes] = {}
        self._problems: list[str] = []
        self._due = 0.0
        self._refresh()

    def caller(self, key: bytes) -> str | None:
        """Return the name of the client with this key, or None if the key is not valid."""
        if time.monotonic() >= self._due:
            self._refresh()
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._digests.items():  # all of them, so that the duration reveals nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _refresh(self) -> None:
        self._due = time.monotonic() + REFRESH_SECONDS
        try:
            found, problems = key_files.read(self._folder)
        except OSError as error:
            self._warn([f"the folder cannot be read ({error.strerror}); the previous keys stay valid"])
            return
        self._warn(problems if found else [*problems, "the folder has no usable key; all requests are rejected"])
        digests = {name: hashlib.sha256(key.encode("ascii")).digest() for name, key in found.items()}
        if digests != self._digests:
            self._digests = digests
            log.info("API keys read", extra={"callers": list(digests)})

    def _warn(self, problems: list[str]) -> None:
        """Log the problems unless they are those of the last refresh."""
        if problems != self._problems:
            self._problems = problems
            for problem in problems:
                log.warning("API keys: %s", problem)
