"""Decide whether a candidate may take the champion's place. Pure: no MLflow in here.

Each check says in one sentence what it found; all are made, so that a refusal names everything that is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from training.compare import METRICS, Comparison, Truth, compare
from training.holdout import Holdout
from training.interface import differences
from training.registered import Registered


@dataclass(frozen=True)
class Rules:
    """What a candidate has to fulfil.

    Args:
        metric: of the comparison.
        margin: that the gain has to exceed, in the metric's unit; below 0, how much worse a candidate may be.
        limits: the worst value allowed of each metric.
        confidence, resamples, seed: of the bootstrap.
        same_holdout: compare only models with the same held-out rows; else on the candidate's, which speaks for the
            champion where it was trained on some of them.
    """

    metric: str
    margin: float
    limits: dict[str, float]
    confidence: float
    resamples: int
    seed: int
    same_holdout: bool = True


@dataclass(frozen=True)
class Check:
    """One of the gate's questions and its answer."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All checks, and the comparison when there was one."""

    checks: tuple[Check, ...]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether every check has passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What failed, or else what spoke for it."""
        return "; ".join(check.detail for check in self.checks if check.passed == self.passed)


def judge(
    candidate: Registered,
    champion: Registered | None,
    holdout: Holdout,
    champion_holdout: str,
    verification: dict[str, Any] | None,
    rules: Rules,
) -> Verdict:
    """Make every check that can be made.

    Args:
        champion: None for the first promotion, of which verification and limits are asked alone.
        holdout: rows that the candidate was not trained on.
        champion_holdout: digest of the rows that the champion was not trained on.
        verification: what `python -m app.verify` found.
    """
    checks = [_verified(candidate, verification)]
    answers = candidate.predict(holdout.frame)
    checks += _limits(holdout.truth, answers, rules.limits)
    if champion is None:
        checks.append(Check("champion", True, "there is no champion to compare with"))
        return Verdict(tuple(checks), None)
    noticed = "; ".join(differences(champion.contract, candidate.contract))
    same = "its callers would notice no difference"
    checks.append(Check("interface", not noticed, noticed or same))
    if rules.same_holdout and holdout.sha256 != champion_holdout:
        detail = (
            f"it was trained with the held-out rows {holdout.sha256[:12]}, version {champion.version} with "
            f"{champion_holdout[:12] or 'none known'}: only models with the same held-out rows are compared"
        )
        checks.append(Check("holdout", False, detail))
        return Verdict(tuple(checks), None)
    if champion.contract.task != candidate.contract.task:
        return Verdict(tuple(checks), None)
    try:
        found = compare(
            rules.metric, holdout.truth, champion.predict(holdout.frame), answers,
            resamples=rules.resamples, confidence=rules.confidence, seed=rules.seed,
        )  # fmt: skip
    except ValueError as error:
        checks.append(Check("better", False, f"{error}; hold out more"))
        return Verdict(tuple(checks), None)
    checks.append(_better(found, champion, holdout, rules))
    return Verdict(tuple(checks), found)


def _verified(candidate: Registered, verification: dict[str, Any] | None) -> Check:
    if verification is None:
        return Check("verified", False, "it is not verified: run python -m app.verify and hand over its result")
    of = verification["model"]["sha256"]
    if not verification["passed"]:
        failed = "; ".join(f"{c['name']}: {c['detail']}" for c in verification["checks"] if not c["passed"])
        return Check("verified", False, f"its verification failed: {failed}")
    if of != candidate.sha256:
        detail = f"the verification is of a model with sha256 {of}, but it has {candidate.sha256}"
        return Check("verified", False, detail)
    return Check("verified", True, f"verified by service {verification['service'].get('version', '')}")


def _limits(truth: Truth, answers: Any, limits: dict[str, float]) -> Iterator[Check]:
    for name, limit in limits.items():
        metric = METRICS[name]
        value = metric.value(truth, answers)
        passed = metric.sign * value >= metric.sign * limit
        bound = "at least" if metric.sign > 0 else "at most"
        yield Check(f"limit of {name}", passed, f"{name} is {value:.6g}, {bound} {limit:g} is required")


def _better(found: Comparison, champion: Registered, holdout: Holdout, rules: Rules) -> Check:
    passed = found.low > rules.margin
    detail = (
        f"{found.metric} is {found.candidate:.6g} on {len(holdout.frame)} held-out rows, version {champion.version} "
        f"has {found.champion:.6g}: a gain of {found.gain:+.6g}, at least {found.low:+.6g} with {rules.confidence:.0%} "
        f"confidence, where more than {rules.margin:+g} is required"
    )
    return Check("better", passed, detail)
