"""Accounts: what the token buckets allow, what they announce, and when quotas are read again."""

import json
import math
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app import accounts
from app.accounts import Account, Accounts, Bucket, Usage
from app.audit import Audit
from app.errors import QuotaExceededError, TooLargeError
from app.quota_file import Policy, Quota
from tests.app.harness import structured

MODEL = "accounts"
NOW = 1_000_000.0  # a clock that runs since boot


def account(requests: Policy | None = None, rows: Policy | None = None, name: str = "web") -> Account:
    return Account(name, Usage(MODEL, name), Quota(requests, rows), Audit())


def announced(found: Account, now: float = NOW) -> dict[str, Any]:
    """Return the two RateLimit headers as an independent parser of structured fields reads them."""
    return {name.decode(): structured(value) for name, value in found.headers(now)}


def test_bucket_allows_the_burst_and_then_the_rate() -> None:
    bucket = Bucket(Policy("requests", 10, 20))

    assert [bucket.take(1, NOW) for _ in range(21)] == [True] * 20 + [False]
    assert [bucket.take(1, NOW + 0.1 * second) for second in range(1, 6)] == [True] * 5
    assert not bucket.take(1, NOW + 0.55)
    assert [bucket.take(1, NOW + 100) for _ in range(21)] == [True] * 20 + [False]  # never more than the burst


def test_refused_units_are_not_taken() -> None:
    bucket = Bucket(Policy("rows", 10, 20))
    assert bucket.take(15, NOW)

    assert not bucket.take(6, NOW)
    assert bucket.take(5, NOW)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1, 7, 99.9, 1e6])
def test_request_succeeds_after_the_announced_wait_and_not_a_second_earlier(rate: float) -> None:
    drawn = random.Random(0)  # noqa: S311 - not for security
    bucket, now = Bucket(Policy("rows", rate, max(1, math.floor(10 * rate)))), NOW
    for _ in range(200):
        units = drawn.randint(1, bucket.policy.burst)
        while not bucket.take(units, now):
            wait = max(1, math.ceil(bucket.wait(units, now) - accounts._TOLERANCE))
            assert not bucket.take(units, now + wait - 1.001)
            now += wait
            assert bucket.wait(units, now) <= accounts._TOLERANCE


def test_headers_are_structured_fields_with_limit_and_rest() -> None:
    found = account(Policy("requests", 10, 100), Policy("rows", 1000, 10_000))
    found.request(NOW)

    assert announced(found) == {
        "ratelimit-policy": {"requests": {"q": 100, "w": 10}, "rows": {"q": 10_000, "w": 10, "qu": "rows"}},
        "ratelimit": {"requests": {"r": 99, "t": 1}, "rows": {"r": 10_000, "t": 1}},
    }


def test_rest_announces_the_time_until_the_next_unit() -> None:
    found = account(Policy("requests", 0.1, 2))
    found.request(NOW)

    assert announced(found, NOW)["ratelimit"] == {"requests": {"r": 1, "t": 10}}
    assert announced(found, NOW + 7.5)["ratelimit"] == {"requests": {"r": 1, "t": 3}}
    found.request(NOW + 7.5)
    assert announced(found, NOW + 7.5)["ratelimit"] == {"requests": {"r": 0, "t": 3}}
    assert announced(found, NOW + 10)["ratelimit"] == {"requests": {"r": 1, "t": 10}}


def test_refusal_names_the_quota_and_the_time_until_the_same_request_succeeds() -> None:
    found = account(Policy("requests", 0.5, 2))
    found.request(NOW)
    found.request(NOW)

    with pytest.raises(QuotaExceededError) as refused:
        found.request(NOW + 0.5)

    assert refused.value.headers == {"Retry-After": "2"}
    assert str(refused.value) == "The quota of this caller is used up: 0.5 requests per second, at most 2 at once."
    found.request(NOW + 2.5)


def test_refused_rows_wait_for_the_next_request_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = account(Policy("requests", 0.1, 1), Policy("rows", 100, 100))
    monkeypatch.setattr("time.monotonic", lambda: NOW)
    found.request(NOW)
    found.rows(100)

    with pytest.raises(QuotaExceededError) as refused:
        found.rows(100)  # available after one second, but the next request only after ten

    assert refused.value.headers == {"Retry-After": "10"}


def test_more_rows_than_the_burst_are_refused_for_good() -> None:
    found = account(rows=Policy("rows", 100, 200))

    with pytest.raises(TooLargeError, match="has 201 rows; the quota of this caller allows at most 200 rows per"):
        found.rows(201)
    found.rows(200)


def test_threads_get_no_more_rows_than_the_quota_has() -> None:
    """Each thread yields after every instruction, so that unprotected charges would overlap."""
    found = account(rows=Policy("rows", 1e-6, 20), name="threads")

    def overlapping(frame: FrameType, _: str, __: Any) -> Any:
        frame.f_trace_opcodes = True
        time.sleep(0)
        return overlapping

    def charge(_: int) -> bool:
        sys.settrace(overlapping)
        try:
            found.rows(1)
        except QuotaExceededError:
            return False
        finally:
            sys.settrace(None)
        return True

    with ThreadPoolExecutor(4) as threads:
        taken = sum(threads.map(charge, range(40)))

    assert taken == 20
    list(REGISTRY.collect())
    labels = {"model_name": MODEL, "caller": "threads"}
    assert REGISTRY.get_sample_value("model_caller_rows_total", labels) == 40
    assert REGISTRY.get_sample_value("model_quota_refusals_total", labels | {"reason": "rows"}) == 20


def test_usage_and_refusals_are_counted_by_caller() -> None:
    def value(name: str, **labels: str) -> float | None:
        list(REGISTRY.collect())  # counts what waits
        return REGISTRY.get_sample_value(name, {"model_name": MODEL, "caller": "counted"} | labels)

    found = account(Policy("requests", 1, 1), Policy("rows", 1, 10), "counted")
    assert value("model_quota_refusals_total", reason="requests") == 0
    found.request(NOW)
    found.rows(10)
    with pytest.raises(QuotaExceededError):
        found.request(NOW)
    with pytest.raises(QuotaExceededError):
        found.rows(1)

    assert value("model_caller_requests_total") == 2
    assert value("model_caller_rows_total") == 11
    assert value("model_quota_refusals_total", reason="requests") == 1
    assert value("model_quota_refusals_total", reason="rows") == 1


def test_addresses_are_forgotten_after_the_longest_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_ADDRESSES", 3)
    known = Accounts(MODEL, None, Audit())
    first, second = known.address("10.0.0.1"), known.address("10.0.0.2")
    known.address("10.0.0.3")
    assert known.address("10.0.0.1") is first

    known.address("10.0.0.4")

    assert known.address("10.0.0.1") is first
    assert known.address("10.0.0.2") is not second


def test_changed_quotas_apply_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "quotas.json"
    path.write_text('{"default": {"requestsPerSecond": 1}, "owners": {"web": {"requestsPerSecond": 2}}}')
    known = Accounts(MODEL, path, Audit())
    web, other, client = known.owner("web"), known.owner("other"), known.address("10.0.0.1")
    web.request(NOW)
    assert [announced(each)["ratelimit"]["requests"]["r"] for each in (web, other, client)] == [19, 10, 10]

    path.write_text('{"default": {"requestsPerSecond": 3}, "owners": {"web": {"requestsPerSecond": 2}}}')
    known.refresh(known._due - 0.001)
    assert announced(other)["ratelimit"]["requests"]["r"] == 10
    known.refresh(known._due)

    assert [announced(each)["ratelimit"]["requests"]["r"] for each in (web, other, client)] == [19, 30, 30]
    path.write_text(json.dumps({"default": {"rowsPerSecond": 1}}))
    known.refresh(known._due)
    assert set(announced(web)["ratelimit"]) == {"rows"}


def test_unusable_quotas_keep_the_previous_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "quotas.json"
    path.write_text('{"default": {"requestsPerSecond": 1}}')
    known = Accounts(MODEL, path, Audit())

    path.write_text("{}}")
    for _ in range(3):
        known.refresh(known._due)

    assert known.owner("web").headers(NOW)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith(f"quotas: {path}: the file: Invalid JSON")
    assert warned[0].endswith("; the previous quotas stay valid")
