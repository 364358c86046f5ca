"""The public keys of an issuer of tokens, read from its address or from a file, and again while requests arrive.

An issuer announces new keys before it signs with them, or rotates without a word. Both work: keys are read every five
minutes, and at once if a token names an unknown key. A key that the issuer has removed is rejected from then on. If the
issuer does not answer, the keys stay as they were.
"""

import asyncio
import http.client
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import Request

import jwt

from app.errors import LoadError
from app.monitoring.issuer import AVAILABLE
from app.registry.client import opener_until
from app.settings import Settings

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0  # after a failure
UNKNOWN_SECONDS = 10.0  # between two refreshes for unknown keys, which anybody can invent
CALL_SECONDS = 5.0
MAX_BYTES = 1 << 20
# Algorithms by the type of the key. Never those with a shared secret, for which a public key would be the secret.
ALGORITHMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        "EC": ("ES256", "ES384", "ES512"),
        "OKP": ("EdDSA",),
    }
)

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """A public key, and the algorithms for which it may be used."""

    public: Any
    algorithms: tuple[str, ...]
    declared: Mapping[str, Any]  # as the issuer wrote it


Keys = Mapping[str | None, Key]


class IssuerKeys:
    """The keys of one issuer by their id. All methods run on the event loop.

    Args:
        settings: The issuer, and where its keys are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: Keys = {}
        self._task: asyncio.Task[None] | None = None
        self._due = self._asked = 0.0  # by time.monotonic(): the next regular refresh, and the last one
        self._problem = ""
        self.version = 0  # changes with the keys

    @property
    def known(self) -> bool:
        """Whether keys were ever read."""
        return bool(self._keys)

    def find(self, kid: str | None) -> Key | None:
        """Return a key by its id; without an id, the only key."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def may_learn(self, now: float) -> bool:
        """Return whether `learn` may find a key that is not known."""
        return self._task is not None or not self._asked or now - self._asked >= UNKNOWN_SECONDS

    async def learn(self) -> None:
        """Wait until the keys have been read again."""
        await asyncio.shield(self._task or self._start(time.monotonic()))

    def refresh(self, now: float) -> None:
        """Start to read the keys again if that is due. The request that notices does not wait."""
        if now >= self._due and self._task is None:
            self._start(now)

    def _start(self, now: float) -> asyncio.Task[None]:
        self._asked = now
        self._task = asyncio.create_task(self._refresh())
        return self._task

    async def _refresh(self) -> None:
        try:
            found, problem = await asyncio.to_thread(_read, self._settings), ""
        except LoadError as error:
            found, problem = self._keys, str(error)
        finally:
            self._task = None
        self._due = time.monotonic() + (RETRY_SECONDS if problem else REFRESH_SECONDS)
        AVAILABLE.labels(self._settings.served_name).set(not problem)
        if problem and problem != self._problem:
            log.warning("keys of the issuer: %s", problem)
        self._problem = problem
        if _declared(found) != _declared(self._keys):
            self._keys = found
            self.version += 1
            log.info("keys of the issuer read", extra={"key_ids": [str(kid) for kid in found]})


def _declared(keys: Keys) -> dict[str | None, Mapping[str, Any]]:
    return {kid: key.declared for kid, key in keys.items()}


def _read(settings: Settings) -> Keys:
    """Return the current keys.

    Raises:
        LoadError: They cannot be read.
    """
    if settings.jwt_jwks_file:
        return _usable(_content(settings.jwt_jwks_file), str(settings.jwt_jwks_file))
    address = settings.jwt_jwks_uri or _discovered(settings.jwt_issuer)
    return _usable(_get(address), address)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()[:MAX_BYTES]
    except OSError as error:
        raise LoadError(f"{path} cannot be read ({error.strerror})", "mount the ConfigMap with this key") from None


def _discovered(issuer: str) -> str:
    """Return the address of an issuer's keys, as OpenID Connect Discovery defines it."""
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    document = _object(_get(address), address)
    if document.get("issuer") != issuer:
        raise LoadError(
            f"{address} belongs to the issuer {str(document.get('issuer'))[:200]!r}, not to {issuer!r}",
            "set the issuer exactly as it is written there, including a slash at the end",
        )
    found = document.get("jwks_uri")
    if not isinstance(found, str) or not found.startswith(("https://", "http://")):
        raise LoadError(f"{address} names no jwks_uri", "set the address of the keys")
    if issuer.startswith("https://") and not found.startswith("https://"):
        raise LoadError(f"{address} names keys without TLS", "set an address of the keys that starts with https://")
    return found


def _get(address: str) -> bytes:
    headers = {"Accept": "application/json", "User-Agent": "model-service"}
    try:
        request = Request(address, headers=headers)  # noqa: S310 - settings and _discovered accept only http and https
        with opener_until(time.monotonic() + CALL_SECONDS).open(request, timeout=CALL_SECONDS) as answer:
            content: bytes = answer.read(MAX_BYTES)
            return content
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise LoadError(
            f"{address} does not answer ({cause})",
            "check the address, its certificate and that no network policy blocks the connection",
            retryable=True,
        ) from None
    except ValueError as error:  # such as a label of a host name that is longer than IDNA allows
        raise LoadError(f"{address[:200]} is not an address ({error})", "correct the address of the keys") from None


def _object(content: bytes, origin: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise LoadError(f"{origin} is not a JSON object of at most {MAX_BYTES} bytes", "correct the address")
    return document


def _usable(content: bytes, origin: str) -> Keys:
    keys = _object(content, origin).get("keys")
    found: dict[str | None, Key] = {}
    for each in keys if isinstance(keys, list) else []:
        try:
            key = jwt.PyJWK(each)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):  # of a type that the library lacks
            continue
        named = each.get("alg")  # a key that names none may be used for all of its type
        usable = tuple(each for each in ALGORITHMS.get(str(key.key_type), ()) if named in (None, each))
        if usable and key.public_key_use in (None, "sig"):
            found[key.key_id] = Key(key.key, usable, each)
    if not found:
        raise LoadError(f"{origin} has no public key for signatures (RSA, EC or Ed25519)", "correct the address")
    return found
