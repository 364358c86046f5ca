"""Access tokens of an OpenID provider: `Authorization: Bearer <JWT>`, RFC 9068 and the tokens of Kubernetes.

A token is verified once. Until it expires or the issuer changes its keys, its digest stands for it.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jwt

from app.errors import ForbiddenError, InvalidTokenError, IssuerAwayError, UnknownKeyError
from app.http.issuer_keys import IssuerKeys, Key
from app.settings import Settings

LONGEST = 8192  # bytes of a token
LONGEST_NAME = 256  # characters of the caller's name
MOST_CACHED = 10_000
_REASONS: Mapping[type[Exception], str] = MappingProxyType(
    {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is from another issuer",
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.InvalidAlgorithmError: "its algorithm is not one of its key",
        jwt.MissingRequiredClaimError: "it lacks a claim",
    }
)


class _Verified(NamedTuple):
    caller: str
    expires: float  # by time.time()


class AccessTokens:
    """Finds the caller that an issuer named in a token.

    Args:
        settings: Issuer, audience, required scopes and the claim with the caller's name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scopes = frozenset(settings.jwt_required_scopes)
        self.keys = IssuerKeys(settings)
        self._version = 0
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def caller(self, token: bytes, now: float, *, learned: bool = False) -> str:
        """Return the caller's name.

        Args:
            token: The value of the header after `Bearer`.
            now: Time by time.monotonic().
            learned: Whether the keys have just been read, so that an unknown one is final.

        Raises:
            UnknownKeyError: Await `keys.learn()`, and ask again.
            InvalidTokenError: The token is not valid.
            ForbiddenError: The token lacks a required scope.
            IssuerAwayError: The keys of the issuer could not be read yet.
        """
        self.keys.refresh(now)
        if self._version != self.keys.version:
            self._version = self.keys.version
            self._verified.clear()
        digest = hashlib.sha256(token).digest()
        found = self._verified.get(digest)
        if found is None or found.expires < time.time():
            found = self._verify(token, now, learned)
            self._verified[digest] = found
            if len(self._verified) > MOST_CACHED:
                self._verified.popitem(last=False)
        return found.caller

    def _verify(self, token: bytes, now: float, learned: bool) -> _Verified:
        if len(token) > LONGEST or token.count(b".") != 2:
            raise InvalidTokenError("it is not a JWT")
        settings = self._settings
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"), now, learned)
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
                leeway=settings.jwt_leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidTokenError(_REASONS.get(type(error), "it is damaged")) from None
        if missing := sorted(self._scopes - _scopes(claims)):
            raise ForbiddenError(missing, sorted(self._scopes))
        name = claims.get(settings.jwt_owner_claim)
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidTokenError("its claim with the name of the caller is not a text of 1 to 256 characters")
        return _Verified(name, float(claims["exp"]) + settings.jwt_leeway_seconds)

    def _key(self, kid: Any, now: float, learned: bool) -> Key:
        if (key := self.keys.find(kid if isinstance(kid, str) else None)) is not None:
            return key
        if not learned and self.keys.may_learn(now):
            raise UnknownKeyError
        if not self.keys.known:
            raise IssuerAwayError
        raise InvalidTokenError("its key is not one of the issuer's")


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Return the scopes of a token: `scope` with blanks between them (RFC 9068), or a list in `scope` or `scp`."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        each = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        found |= {scope for scope in each if isinstance(scope, str)}
    return found
