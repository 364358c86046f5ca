"""Buffered observations give the same histogram as immediate ones."""

import random
import threading
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY, Histogram

from app.monitoring.model_metrics import STAGE_BUCKETS_SECONDS
from app.monitoring.observations import MOST_WAITING, Observations, observations


def pair(name: str) -> tuple[Histogram, Observations]:
    """Return the child of a histogram that counts immediately, and of one that is buffered."""
    plain, late = (
        Histogram(f"{name}_{how}", "For a test.", ["who"], buckets=STAGE_BUCKETS_SECONDS).labels("me")
        for how in ("plain", "late")
    )
    return plain, observations(late)


def samples(name: str) -> dict[str, float]:
    """Return the samples of a scrape by suffix and bucket bound."""
    return {
        sample.name.removeprefix(name) + sample.labels.get("le", ""): sample.value
        for family in REGISTRY.collect()
        if family.name == name
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("count", [0, 1, MOST_WAITING - 1, MOST_WAITING, 3 * MOST_WAITING + 1])
def test_scrape_includes_all_observations_in_their_buckets(count: int) -> None:
    drawn = random.Random(count)  # noqa: S311 - for variety
    values = [drawn.choice([drawn.lognormvariate(-6, 2), *STAGE_BUCKETS_SECONDS, 0.0, 11.0]) for _ in range(count)]
    plain, late = pair(f"observed_{count}")
    for value in values:
        plain.observe(value)
        late.observe(value)

    expected, found = samples(f"observed_{count}_plain"), samples(f"observed_{count}_late")

    assert found.pop("_sum") == pytest.approx(expected.pop("_sum"))
    assert found == expected
    assert found["_count"] == found["_bucket+Inf"] == count


def test_threads_and_scrapes_lose_no_observations() -> None:
    _, late = pair("observed_by_threads")
    scraped: list[float] = []

    def run(work: Callable[[], object], times: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: [work() for _ in range(times)])
        thread.start()
        return thread

    threads = [run(lambda: late.observe(1), 20_000) for _ in range(4)]
    threads.append(run(lambda: scraped.append(samples("observed_by_threads_late")["_count"]), 30))
    for thread in threads:
        thread.join()

    assert scraped == sorted(scraped)
    assert samples("observed_by_threads_late")["_sum"] == 80_000


def test_waiting_values_are_bounded() -> None:
    _, late = pair("observed_without_scrapes")
    for _ in range(10 * MOST_WAITING):
        late.observe(1)
        assert len(late._waiting) < MOST_WAITING


def test_observations_of_a_child_share_one_buffer() -> None:
    child = Histogram("observed_by_two", "For a test.", ["who"]).labels("me")
    assert observations(child) is observations(child)
