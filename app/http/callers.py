"""The callers of the service: whose request it is, and which account is charged."""

from starlette.types import Scope

from app.accounts import Account, Accounts
from app.audit import Audit
from app.context import CALLER
from app.errors import UnauthorizedError
from app.http.addresses import Addresses
from app.http.keys import Keys
from app.settings import Settings


class Callers:
    """Finds the account of each request's caller: by its API key, or by its address if no keys are required.

    Args:
        settings: Keys, quotas and trusted proxies.
    """

    def __init__(self, settings: Settings) -> None:
        self._audit = Audit()
        self._accounts = Accounts(settings.served_name, settings.quotas_file, self._audit)
        self._keys = Keys(settings.api_keys_dir) if settings.api_keys_dir else None
        self._addresses = Addresses(settings.trusted_proxies)

    def identify(self, scope: Scope, now: float) -> Account:
        """Return the account of the caller.

        Raises:
            UnauthorizedError: The request has no valid key.
        """
        self._accounts.refresh(now)
        if self._keys is None:
            return self._accounts.address(self._addresses.of(scope))
        name = self._keys.caller(_bearer(scope["headers"]))
        if name is None:
            self._audit.refused(self._addresses.of(scope), "request refused: it has no valid API key", now)
            raise UnauthorizedError
        CALLER.set(name)
        return self._accounts.owner(name)


def _bearer(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the key in the request's headers, or an empty value, which is never a valid key."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
    return b""
