"""Accounts of callers: what each one has left of its quota, and what it has used.

All methods run on the event loop, except `Account.rows`, which threads call for large bodies, and the collection of the
metrics.
"""

import logging
import math
import threading
import time
from collections import OrderedDict
from functools import cache, partial
from pathlib import Path

from prometheus_client import Counter

from app import quota_file
from app.audit import Audit
from app.errors import QuotaExceededError, TooLargeError
from app.monitoring.observations import tally
from app.quota_file import Policy, Quota, Quotas

REFRESH_SECONDS = 1.0
MOST_ADDRESSES = 10_000  # with an account of their own, and as many subjects; the one idle for longest is forgotten
MOST_SUBJECTS = 100  # of access tokens, with metrics of their own
UNKNOWN = "unknown"  # label of all callers without a name
OTHERS = "others"  # label of the subjects beyond MOST_SUBJECTS
UNITS = ("requests", "rows")

REQUESTS = Counter("model_caller_requests_total", "POST requests by caller.", ["model_name", "caller"])
ROWS = Counter("model_caller_rows_total", "Rows to predict or explain, by caller.", ["model_name", "caller"])
REFUSALS = Counter(
    "model_quota_refusals_total",
    "Requests that exceeded the quota of their caller, by the exhausted unit: requests or rows.",
    ["model_name", "caller", "reason"],
)

# Seconds by which a bucket may be overdrawn, so that a client that waits for exactly `Retry-After` is not refused for a
# rounding error.
_TOLERANCE = 1e-6

log = logging.getLogger(__name__)


class Bucket:
    """The units that one caller has left under one policy: a token bucket.

    Its only state is the time at which it is full again (the generic cell rate algorithm, GCRA).

    Args:
        policy: Limit.
    """

    __slots__ = ("_burst", "_full_at", "_interval", "_prefix", "_rate", "_seconds", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._rate, self._interval = policy.rate, 1 / policy.rate
        self._burst, self._seconds = policy.burst + _TOLERANCE * policy.rate, policy.seconds + _TOLERANCE
        self._full_at = 0.0
        self._prefix = f'"{policy.unit}";r='

    def wait(self, units: int, now: float) -> float:
        """Return the seconds until this many units are available; at most 0 if they are available now."""
        return max(self._full_at, now) + units * self._interval - now - self._seconds

    def take(self, units: int, now: float) -> bool:
        """Take the units and return True if they are available; otherwise take none."""
        full_at = self._full_at
        full_at = (full_at if full_at > now else now) + units * self._interval
        if full_at - now > self._seconds:
            return False
        self._full_at = full_at
        return True

    def left(self, now: float) -> str:
        """Return the item of the header RateLimit: the units that are left (r), and the seconds until the next (t)."""
        full_at = self._full_at
        exact = self._burst - (full_at - now) * self._rate if full_at > now else self._burst
        units = int(exact) if exact > 0 else 0
        if self._interval <= 1:
            return f"{self._prefix}{units};t=1"
        return f"{self._prefix}{units};t={max(1, math.ceil((units + 1 - exact) * self._interval))}"


class Usage:
    """What a caller has used, or all callers without an API key together, as metrics.

    Args:
        model: Name of the model.
        caller: Name of the caller.
    """

    def __init__(self, model: str, caller: str) -> None:
        self.request = tally(REQUESTS.labels(model, caller)).add
        self.rows = tally(ROWS.labels(model, caller)).add
        self.lock = threading.Lock()  # held while rows are charged
        # Created now, because rate() does not see the first increase of a new counter.
        self.refused = {unit: REFUSALS.labels(model, caller, unit) for unit in UNITS}


class Account:
    """One caller.

    Args:
        name: Name of its API key, or its address.
        usage: Metrics.
        quota: Limits.
        audit: Log of refusals.
    """

    __slots__ = ("_audit", "_name", "_policies", "_requests", "_rows", "_usage")

    def __init__(self, name: str, usage: Usage, quota: Quota, audit: Audit) -> None:
        self._name, self._usage, self._audit = name, usage, audit
        self._requests: Bucket | None = None
        self._rows: Bucket | None = None
        self.assign(quota)

    def assign(self, quota: Quota) -> None:
        """Replace the limits. A bucket whose limit stays the same keeps its level."""
        with self._usage.lock:
            self._requests, self._rows = _kept(self._requests, quota.requests), _kept(self._rows, quota.rows)
        policies = ", ".join(each.header for each in (quota.requests, quota.rows) if each)
        self._policies = (b"ratelimit-policy", policies.encode())

    def request(self, now: float) -> None:
        """Count a request and charge the quota for it.

        Raises:
            QuotaExceededError: The requests are used up.
        """
        self._usage.request(1)
        if self._requests and not self._requests.take(1, now):
            self._refuse(self._requests, 1, now)

    def rows(self, count: int) -> None:
        """Count the rows of a request and charge the quota for them. Thread-safe.

        Raises:
            TooLargeError: The quota never allows this many rows at once.
            QuotaExceededError: The rows are used up.
        """
        with self._usage.lock:
            self._usage.rows(count)
            if not self._rows:
                return
            if count > (most := self._rows.policy.burst):
                raise TooLargeError(
                    f"The body has {count} rows; the quota of this caller allows at most {most} rows per request."
                )
            if not self._rows.take(count, now := time.monotonic()):
                self._refuse(self._rows, count, now)

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """Return the headers of a response: the limits, and what is left of them; none without limits."""
        if self._requests and self._rows:
            left = f"{self._requests.left(now)}, {self._rows.left(now)}"
        elif bucket := self._requests or self._rows:
            left = bucket.left(now)
        else:
            return []
        return [self._policies, (b"ratelimit", left.encode())]

    def _refuse(self, bucket: Bucket, units: int, now: float) -> None:
        self._usage.refused[bucket.policy.unit].inc()
        self._audit.refused(self._name, "request refused: the quota of the caller is used up", now)
        wait = bucket.wait(units, now)
        if self._requests and bucket is self._rows:  # the next attempt is a request too
            wait = max(wait, self._requests.wait(1, now))
        policy = bucket.policy
        raise QuotaExceededError(
            f"The quota of this caller is used up: {policy.rate:g} {policy.unit} per second, at most {policy.burst} "
            f"at once.",
            max(1, math.ceil(wait - _TOLERANCE)),
        )


def _kept(bucket: Bucket | None, policy: Policy | None) -> Bucket | None:
    if bucket and bucket.policy == policy:
        return bucket
    return Bucket(policy) if policy else None


class Accounts:
    """The accounts of all callers: one for each API key that was used, and for each of the last subjects and addresses.

    Args:
        model: Name of the model, a label of the metrics.
        path: File with the quotas, which is read again at most once a second while requests arrive. None: no quotas.
        audit: Log of refusals.
    """

    def __init__(self, model: str, path: Path | None, audit: Audit) -> None:
        self._path, self._audit = path, audit
        self._quotas = quota_file.read(path) if path else Quotas()
        self._due = time.monotonic() + REFRESH_SECONDS
        self._problem = ""
        self._usage = cache(partial(Usage, model))
        self._owners: dict[str, Account] = {}
        self._subjects: OrderedDict[str, Account] = OrderedDict()
        self._shown: set[str] = set()
        self._addresses: OrderedDict[str, Account] = OrderedDict()

    def owner(self, name: str) -> Account:
        """Return the account of an API key by its name."""
        if not (account := self._owners.get(name)):
            account = self._owners[name] = Account(name, self._usage(name), self._quotas.of(name), self._audit)
        return account

    def subject(self, name: str) -> Account:
        """Return the account of the subject of an access token.

        An issuer may name any number of subjects. Those in the quotas and the first `MOST_SUBJECTS` others have metrics
        of their own.
        """
        if name in self._owners or name in self._quotas.owners:
            return self.owner(name)
        if account := self._subjects.get(name):
            self._subjects.move_to_end(name)
            return account
        if len(self._shown) < MOST_SUBJECTS:
            self._shown.add(name)
        usage = self._usage(name if name in self._shown else OTHERS)
        return self._kept(self._subjects, name, Account(name, usage, self._quotas.default, self._audit))

    def address(self, address: str) -> Account:
        """Return the account of a client without a name."""
        if account := self._addresses.get(address):
            self._addresses.move_to_end(address)
            return account
        account = Account(address, self._usage(UNKNOWN), self._quotas.default, self._audit)
        return self._kept(self._addresses, address, account)

    @staticmethod
    def _kept(accounts: OrderedDict[str, Account], name: str, account: Account) -> Account:
        accounts[name] = account
        if len(accounts) > MOST_ADDRESSES:
            accounts.popitem(last=False)
        return account

    def refresh(self, now: float) -> None:
        """Read the quotas again if that is due. If they cannot be read, they stay as they were."""
        if not self._path or now < self._due:
            return
        self._due = now + REFRESH_SECONDS
        try:
            found, problem = quota_file.read(self._path), ""
        except ValueError as error:
            found, problem = self._quotas, str(error)
        if problem != self._problem:
            self._problem = problem
            if problem:
                log.warning("quotas: %s; the previous quotas stay valid", problem)
        if found != self._quotas:
            self._quotas = found
            for name, account in self._owners.items():
                account.assign(found.of(name))
            for account in (*self._addresses.values(), *self._subjects.values()):
                account.assign(found.default)
            log.info("quotas read", extra={"callers": list(found.owners)})
