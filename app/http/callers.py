"""The callers of the service: whose request it is, and which account is charged."""

from typing import TYPE_CHECKING

from starlette.types import Scope

from app.accounts import Account, Accounts
from app.audit import Audit
from app.context import CALLER
from app.errors import InvalidTokenError, UnauthorizedError
from app.http.addresses import Addresses
from app.http.keys import Keys
from app.settings import Settings

if TYPE_CHECKING:
    from app.http.access_tokens import AccessTokens


class Callers:
    """Finds the account of each request's caller: by API key or access token, or by address if neither is required.

    Args:
        settings: Keys, issuer of tokens, quotas and trusted proxies.
    """

    def __init__(self, settings: Settings) -> None:
        self._audit = Audit()
        self._accounts = Accounts(settings.served_name, settings.quotas_file, self._audit)
        self._keys = Keys(settings.api_keys_dir) if settings.api_keys_dir else None
        self._tokens = _tokens(settings)
        self._addresses = Addresses(settings.trusted_proxies)
        self._wanted = " or ".join(["API key"] * bool(self._keys) + ["access token"] * bool(self._tokens))

    def identify(self, scope: Scope, now: float, *, learned: bool = False) -> Account:
        """Return the account of the caller.

        Args:
            scope: The request.
            now: Time by time.monotonic().
            learned: Whether the keys of the issuer have just been read, so that an unknown one is final.

        Raises:
            UnauthorizedError: The request has no valid key and no valid token.
            ForbiddenError: Its token lacks a scope.
            UnknownKeyError: Await `learn`, and ask again.
            IssuerAwayError: Its token cannot be verified yet.
        """
        self._accounts.refresh(now)
        if self._keys is None and self._tokens is None:
            return self._accounts.address(self._addresses.of(scope))
        credential = _bearer(scope["headers"])
        if self._keys and (name := self._keys.caller(credential)) is not None:
            CALLER.set(name)
            return self._accounts.owner(name)
        why = f"it has no valid {self._wanted}"
        if self._tokens and credential:
            try:
                name = self._tokens.caller(credential, now, learned=learned)
            except InvalidTokenError as error:
                why = f"its token is not valid: {error}"
            else:
                CALLER.set(name)
                return self._accounts.subject(name)
        self._audit.refused(self._addresses.of(scope), f"request refused: {why}", now)
        raise UnauthorizedError(self._wanted)

    async def learn(self) -> None:
        """Wait until the keys of the issuer have been read again."""
        if self._tokens:
            await self._tokens.keys.learn()


def _tokens(settings: Settings) -> "AccessTokens | None":
    if not settings.jwt_issuer:
        return None
    from app.http.access_tokens import AccessTokens

    return AccessTokens(settings)


def _bearer(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the key in the request's headers, or an empty value, which is never a valid key."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
    return b""
