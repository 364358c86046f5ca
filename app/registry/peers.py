"""Client of the other pods of the release, which offer the model that they serve (app.registry.peer_server)."""

import hashlib
import hmac
import http.client
import logging
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from app.errors import LoadError
from app.registry.artifacts import too_large
from app.registry.copies import Copy, folder_of, keep, new_folder, read_copy
from app.registry.object_storage import SECRETS
from app.registry.refusals import Refusal, read_refusals
from app.registry.timed import limited
from app.settings import Settings
from app.uri import StoredFolder

MODEL_PATH, FILES_PATH, REFUSED_PATH = "/v1/model", "/v1/files/", "/v1/refused"
TOKEN_HEADER = "X-Model-Service-Token"  # noqa: S105 - the name of a header
RESOLVER = Path("/etc/resolv.conf")
MOST_ASKED = 8
ANSWER_SECONDS = 2.0  # a pod of a lost node does not answer at all
MOST_JSON_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


def token_of(settings: Settings) -> str:
    """Return the token that pods of a release show each other, computed from their credentials for the model's source.

    Without credentials for MLflow it is "", because MLflow then gives the model to everybody.
    """
    if isinstance(settings.source, StoredFolder):
        secret = "\n".join(filter(None, map(os.environ.get, SECRETS[settings.source.scheme])))
    else:
        secret = settings.tracking_token.get_secret_value() or "\n".join(settings.tracking_user).strip()
    return hmac.new(secret.encode(), settings.peers_host.encode(), "sha256").hexdigest() if secret else ""


def share(settings: Settings) -> bool:
    """Return whether pods of the release give each other the model.

    Pods that read object storage by their identity in a cloud have no secret in common, by which a pod could tell
    whether another may have the model.
    """
    return bool(settings.peers_host) and (bool(token_of(settings)) or not isinstance(settings.source, StoredFolder))


def full_name(host: str, resolver: str) -> str:
    """Return the absolute name of a Service.

    The resolver would try a relative name that does not exist in each of its search domains and then outside the
    cluster, which takes seconds if no server answers there.

    Args:
        host: `<service>.<namespace>`; any other name is returned as it is.
        resolver: Content of /etc/resolv.conf, whose search domains include `svc.<cluster domain>`.
    """
    words = [word for line in resolver.splitlines() if line.startswith("search") for word in line.split()[1:]]
    domain = next((word for word in words if word.startswith("svc.")), "")
    return f"{host}.{domain.rstrip('.')}." if domain and host.count(".") == 1 else host


class Peers:
    """The other pods of the release that are ready.

    Args:
        settings: Their address, and the credentials for MLflow.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self._host, self._port = settings.peers_host if share(settings) else "", settings.peers_port
        self._headers = {TOKEN_HEADER: token} if (token := token_of(settings)) else {}
        self._deadline = deadline

    def copies(self) -> Iterator[tuple[str, Copy]]:
        """Yield the address and the copy of each pod that answers, in random order."""
        for address in self._addresses():
            try:
                found = read_copy(b"".join(self._get(address, MODEL_PATH, MOST_JSON_BYTES)))
            except LoadError as error:
                log.info("a pod of this release offers no model: %s", error, extra={"peer": address})
                continue
            if found is None:
                log.warning("a pod of this release describes its model incorrectly", extra={"peer": address})
            else:
                yield address, found

    def refusals(self) -> Iterator[Refusal]:
        """Yield the versions that the pods that answer refuse."""
        for address in self._addresses():
            try:
                yield from read_refusals(b"".join(self._get(address, REFUSED_PATH, MOST_JSON_BYTES)))
            except LoadError as error:
                log.debug("a pod of this release does not answer: %s", error, extra={"peer": address})

    def fetch(self, address: str, copy: Copy, name: str, cache: Path, most_bytes: int) -> Path:
        """Download a pod's copy and return its folder in the cache.

        Args:
            address: The pod.
            copy: What it offers.
            name: Name of the model in its URI.
            cache: Folder that only this process uses.
            most_bytes: Maximum size of all files together.

        Raises:
            LoadError: The pod does not answer, its files are too large, or a file has a different digest.
        """
        if sum(file.bytes for file in copy.files.values()) > most_bytes:
            raise too_large()
        target = folder_of(cache, name, copy.provenance.version)
        with new_folder(cache) as partial:
            for path, file in copy.files.items():
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with (partial / path).open("xb") as content:
                    for piece in self._get(address, FILES_PATH + quote(path), file.bytes):
                        digest.update(piece)
                        content.write(piece)
                if digest.hexdigest() != file.sha256:
                    raise _failed(f"the pod {address} sent a different {path} than it described")
            keep(partial, target)
        return target

    def _addresses(self) -> list[str]:
        """Return the addresses of at most `MOST_ASKED` pods; without a ready pod the name does not exist."""
        if not self._host:
            return []
        try:
            name = full_name(self._host, RESOLVER.read_text())
            found = socket.getaddrinfo(name, self._port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        addresses = sorted({str(each[4][0]) for each in found})
        return random.sample(addresses, min(MOST_ASKED, len(addresses)))

    def _get(self, address: str, path: str, most: int) -> Iterator[bytes]:
        """Yield the body of a pod's answer in pieces, at most `most` bytes."""
        left = self._deadline - time.monotonic()
        timeout = max(0.1, min(ANSWER_SECONDS, left))
        connection = limited(http.client.HTTPConnection(address, self._port, timeout=timeout), self._deadline)
        with closing(connection):
            try:
                connection.request("GET", path, headers=self._headers)
                answer = connection.getresponse()
                if answer.status != http.client.OK:
                    raise _failed(f"the pod {address} answers {answer.status}")
                received = 0
                while piece := answer.read(1 << 20):
                    received += len(piece)
                    if received > most:
                        raise _failed(f"the pod {address} sends more than it announced")
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise _failed(f"the pod {address} does not answer ({error or type(error).__name__})") from None


def _failed(cause: str) -> LoadError:
    return LoadError(cause, "the next pod, or the registry, is asked instead", retryable=True)
