"""Versions that an alias named and that the pods of a ReplicaSet did not take, or returned from.

Each pod keeps them in its cache, so that they survive its container. It offers them to the other pods, so that all pods
of a ReplicaSet decide alike. The pods of the next rollout start with none.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

FILE = "following.json"
MOST = 100  # remembered, the latest ones
CAUSE_CHARACTERS = 500

Reason = Literal["digest", "memory", "crash", "load", "interface", "settings", "errors", "restart"]


@dataclass(frozen=True)
class Refusal:
    """A version that is not served, and why."""

    version: str
    sha256: str  # "" if the files could not be verified
    reason: Reason
    cause: str  # one sentence
    at: str  # time in the form of RFC 3339
    revision: str  # ReplicaSet whose pods refuse it; "" outside Kubernetes

    def document(self) -> dict[str, Any]:
        """Return the refusal as JSON, for GET /model."""
        return {key: value for key, value in asdict(self).items() if key != "revision"}


@dataclass(frozen=True)
class _Kept:
    trying: Refusal | None = None  # what to record if the process ends before the trial does
    host: str = ""  # whose trial it is, because several pods may share a volume
    refused: tuple[Refusal, ...] = field(default=())


_KEPT = TypeAdapter(_Kept)
_LISTS = TypeAdapter(tuple[Refusal, ...])


def read_refusals(text: bytes) -> tuple[Refusal, ...]:
    """Return the refusals in a JSON document of another pod, or none if it is invalid."""
    try:
        return _LISTS.validate_json(text)[-MOST:]
    except ValidationError:
        return ()


class Refusals:
    """The refusals that a pod knows. One thread changes them, and others may read.

    Args:
        cache: Folder of the downloads.
        revision: ReplicaSet of the pod; "" outside Kubernetes.
    """

    def __init__(self, cache: Path, revision: str) -> None:
        self._file = cache / FILE
        self._revision = revision
        kept = self._read()
        self.refused = tuple(each for each in kept.refused if each.revision == revision)
        if kept.trying and kept.trying.revision == revision and kept.host == socket.gethostname():
            self.add(replace(kept.trying, at=_now()))

    def of(self, version: str, sha256: str = "") -> Refusal | None:
        """Return why a version, or one with the same files, is refused; None if it is not."""
        return next(
            (each for each in self.refused if each.version == version or (sha256 and each.sha256 == sha256)), None
        )

    def new(self, version: str, sha256: str, reason: Reason, cause: str) -> Refusal:
        """Return a refusal by this pod, at this time."""
        return Refusal(version, sha256, reason, cause[:CAUSE_CHARACTERS], _now(), self._revision)

    def add(self, refusal: Refusal) -> None:
        """Remember a refusal, and that no trial is in progress."""
        self.refused = (*(each for each in self.refused if each.version != refusal.version), refusal)[-MOST:]
        self._write()

    def learn(self, others: Iterable[Refusal]) -> None:
        """Take over what other pods of the same ReplicaSet refuse."""
        for each in others:
            if each.revision == self._revision and not self.of(each.version):
                self.refused = (*self.refused, each)[-MOST:]

    def start_trial(self, version: str, sha256: str) -> None:
        """Remember that a version is on trial: if the process ends before `end_trial`, the version is refused."""
        cause = "the container ended while the version was on trial; see its previous log and its last state"
        self._write(self.new(version, sha256, "restart", cause))

    def end_trial(self) -> None:
        """Remember that the version passed its trial."""
        self._write()

    def to_json(self) -> bytes:
        """Return the refusals as a JSON document, for other pods."""
        return _LISTS.dump_json(self.refused)

    def _read(self) -> _Kept:
        try:
            return _KEPT.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return _Kept()

    def _write(self, trying: Refusal | None = None) -> None:
        new = self._file.with_suffix(".new")
        with suppress(OSError):  # a cache that cannot be written to remembers nothing
            new.write_bytes(_KEPT.dump_json(_Kept(trying, socket.gethostname(), self.refused)))
            os.replace(new, self._file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
