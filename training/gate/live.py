"""The checks of a candidate that pods have compared with the champion on live requests, as their challenger.

Prometheus holds what the pods counted (app.monitoring.challenger). Each check compares a bound of a measurement with
its limit, so that too few rows or labels refuse the candidate.
"""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any
from urllib.parse import urlencode

from training.errors import TrainingError
from training.gate.judge import Check, Verdict
from training.gate.promotion import LiveRules, Promotion

TIMEOUT_SECONDS = 30
_MOST_BYTES = 1_000_000


class LiveError(TrainingError):
    """Prometheus is unreachable or does not answer the query."""


@dataclass(frozen=True)
class Live:
    """The checks, and the queries behind them with their values."""

    checks: tuple[Check, ...]
    queries: dict[str, float | None]

    @property
    def evidence(self) -> str:
        """The queries and their values as JSON."""
        return json.dumps(self.queries)


def with_live(promotion: Promotion, verdict: Verdict, champion: str, sha256: str) -> tuple[Verdict, dict[str, str]]:
    """Return the verdict with the checks of what pods measured, and their evidence, if the promotion requires them.

    Args:
        promotion: Its rules for live requests, if any.
        verdict: Result of all other checks.
        champion: Version that pods serve; empty for the first promotion, which has nothing to compare with.
        sha256: Digest of the candidate.

    Raises:
        LiveError: Prometheus is unreachable or does not answer.
    """
    if not promotion.live or not champion:
        return verdict, {}
    live = judge_live(promotion.live, promotion.name, champion, promotion.version, sha256)
    return replace(verdict, checks=(*verdict.checks, *live.checks)), {"live": live.evidence}


def judge_live(rules: LiveRules, name: str, champion: str, candidate: str, sha256: str) -> Live:
    """Compare the candidate with the champion on the live requests of both.

    Args:
        rules: Thresholds.
        name: Registered model.
        champion: Version that pods serve.
        candidate: Version that they compare with it.
        sha256: Digest of the candidate.

    Raises:
        LiveError: Prometheus is unreachable or does not answer.
    """
    found = _Measurements(rules, name, champion, candidate)
    digests = found.digests()
    if digests - {sha256}:
        other = ", ".join(sorted(digests - {sha256}))
        detail = f"pods compared a challenger of version {candidate} with the digest {other}, not {sha256}"
        return Live((Check("live model", False, detail),), found.queries)
    rows = found.total("rows") or 0.0
    if not digests or rows < rules.min_rows:
        detail = (
            f"pods that serve version {champion} predicted {rows:.0f} rows with version {candidate} within "
            f"{rules.window}, at least {rules.min_rows} are required: set challenger.uri to it, and wait"
        )
        return Live((Check("live rows", False, detail),), found.queries)
    checks = [Check("live rows", True, f"{rows:.0f} live rows were predicted by both versions")]
    checks += _errors(found, rows, rules)
    checks += _disagreement(found, rows, rules)
    checks += _quality(found, rules)
    return Live(tuple(checks), found.queries)


def share_at_most(count: float, total: float, confidence: float) -> float:
    """Return the upper bound of a share, by Wilson's score interval for one side.

    Args:
        count: Number of events, from 0 to total.
        total: Number of trials, above 0.
        confidence: Confidence that the true share is not larger.
    """
    z = NormalDist().inv_cdf(confidence)
    share = min(count / total, 1.0)
    center = share + z * z / (2 * total)
    return min(
        (center + z * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2))) / (1 + z * z / total), 1.0
    )


def mean_at_least(total: float, squares: float, count: float, confidence: float) -> float:
    """Return the lower bound of a mean, by the normal approximation for one side.

    Args:
        total: Sum of the values.
        squares: Sum of their squares.
        count: Number of values, at least 30.
        confidence: Confidence that the true mean is not smaller.
    """
    mean = total / count
    variance = max(squares / count - mean * mean, 0.0)
    return mean - NormalDist().inv_cdf(confidence) * math.sqrt(variance / count)


def _errors(found: "_Measurements", rows: float, rules: LiveRules) -> Iterator[Check]:
    failed = found.total("errors") or 0.0
    high = share_at_most(failed, rows + failed, rules.confidence)
    detail = (
        f"it failed on {failed:.0f} of {rows + failed:.0f} live rows, at most {high:.3%} with {rules.confidence:.0%} "
        f"confidence; {rules.max_error_ratio:.3%} is allowed"
    )
    yield Check("live errors", high <= rules.max_error_ratio, detail)


def _disagreement(found: "_Measurements", rows: float, rules: LiveRules) -> Iterator[Check]:
    if rules.max_disagreement is None:
        return
    differ = found.total("disagreements") or 0.0
    high = share_at_most(differ, rows, rules.confidence)
    detail = (
        f"both versions disagree on {differ / rows:.3%} of the live rows, at most {high:.3%} with "
        f"{rules.confidence:.0%} confidence; {rules.max_disagreement:.3%} is allowed"
    )
    yield Check("live disagreement", high <= rules.max_disagreement, detail)


def _quality(found: "_Measurements", rules: LiveRules) -> Iterator[Check]:
    if rules.min_gain is None:
        return
    labels = found.total("labels") or 0.0
    if labels < rules.min_labels:
        detail = (
            f"{labels:.0f} labels were scored for both versions within {rules.window}, at least {rules.min_labels} are "
            "required: set challenger.labels=true, and send labels to POST /feedback"
        )
        yield Check("live labels", False, detail)
        return
    better, worse = found.total("gain", sign="better") or 0.0, found.total("gain", sign="worse") or 0.0
    squares = found.total("squared_gain") or 0.0
    low = mean_at_least(better - worse, squares, labels, rules.confidence)
    detail = (
        f"its mean loss on {labels:.0f} live labels is lower by {(better - worse) / labels:+.6g}, at least {low:+.6g} "
        f"with {rules.confidence:.0%} confidence; at least {rules.min_gain:+g} is required"
    )
    yield Check("live quality", low >= rules.min_gain, detail)


class _Measurements:
    """What Prometheus knows about one pair of versions."""

    def __init__(self, rules: LiveRules, name: str, champion: str, candidate: str) -> None:
        self._rules = rules
        self._pair = {"model_name": name, "model_version": champion, "challenger_version": candidate}
        self.queries: dict[str, float | None] = {}

    def digests(self) -> set[str]:
        """Return the digests of the challengers that pods compared."""
        selected = self._selected("model_challenger_info")
        found = self._ask(f"count by (sha256) (last_over_time({selected}[{self._rules.window}]))")
        return {str(each["metric"].get("sha256", "")) for each in found}

    def total(self, what: str, **labels: str) -> float | None:
        """Return the sum of a counter over all pods in the window, or None without data."""
        selected = self._selected(f"model_challenger_{what}_total", **labels)
        query = f"sum(increase({selected}[{self._rules.window}]))"
        found = self._ask(query)
        value = float(found[0]["value"][1]) if found else None
        if value is not None and not math.isfinite(value):
            raise LiveError(f"{_asked(self._rules.address, query)} returned {value}, which is not a number of rows.")
        self.queries[query] = value
        return value

    def _selected(self, metric: str, **labels: str) -> str:
        matchers = [f"{key}={json.dumps(value)}" for key, value in (self._pair | labels).items()]
        return f"{metric}{{{','.join([*matchers, *filter(None, [self._rules.selector])])}}}"

    def _ask(self, query: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query.

        Raises:
            LiveError: Prometheus is unreachable, refuses, or answers in a different form.
        """
        address = self._rules.address
        target = f"{address}/api/v1/query?{urlencode({'query': query})}"
        request = urllib.request.Request(target)  # noqa: S310 - the settings accept http and https only
        if self._rules.token:
            request.add_header("Authorization", f"Bearer {self._rules.token}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
                answer = json.loads(response.read(_MOST_BYTES))
            if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
                raise ValueError
            return list(answer["data"]["result"])
        except urllib.error.HTTPError as error:
            with error:
                cause = " ".join(error.read(300).decode("utf-8", "replace").split())
            raise LiveError(f"{_asked(address, query)} failed with status {error.code}: {cause}") from None
        except OSError as error:
            cause = str(getattr(error, "reason", error))
            raise LiveError(
                f"Prometheus at {address} is unreachable ({cause}): check --live and the network."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise LiveError(f"{_asked(address, query)} did not return samples: check that it is Prometheus.") from None


def _asked(address: str, query: str) -> str:
    return f"The query {query} to {address}"
