"""The checks that decide whether a candidate replaces the champion. This module does not import MLflow.

Each check describes its finding in one sentence. All checks run, so that a refusal lists every problem.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.model.interface import differences
from training.gate.bootstrap import Comparison, compare
from training.gate.groups import worst_group
from training.gate.promotion import Promotion, Rules, Verification
from training.metrics.catalog import metric_of
from training.metrics.truth import Truth

if TYPE_CHECKING:  # both import MLflow
    from training.gate.holdout import Holdout, Rule
    from training.tracking.registered import Registered


@dataclass(frozen=True)
class Check:
    """A check of the gate and its result."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The results of all checks, and the comparison if there was one."""

    checks: tuple[Check, ...]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Details of the failed checks, or of all checks if none failed."""
        return "; ".join(check.detail for check in self.checks if check.passed == self.passed)


def judge(
    promotion: Promotion,
    candidate: "Registered",
    champion: "Registered | None",
    holdout: "Holdout",
    champion_rule: "Rule | None",
) -> Verdict:
    """Run every check that can run.

    Args:
        promotion: Its rules name the metric of the candidate's task.
        candidate: The version that is to become the champion.
        champion: None for the first promotion, where only the verification and the limits decide.
        holdout: Rows that the candidate was not trained on.
        champion_rule: How the champion's run chose the rows that it was not trained on. None if it is unknown.
    """
    rules = promotion.rules
    checks = [verified(candidate.sha256, promotion.verification)]
    answers = candidate.predict(holdout.frame)
    checks += limits(holdout.truth, answers, rules.limits)
    if champion is None:
        checks.append(Check("champion", True, "there is no champion to compare with"))
        return Verdict(tuple(checks), None)
    breaking = "; ".join(differences(champion.contract, candidate.contract))
    checks.append(Check("interface", not breaking, breaking or "it is compatible with the champion's clients"))
    if rules.same_holdout:
        if not champion_rule or not holdout.rule.fair_to(champion_rule):
            checks.append(Check("holdout", False, _unfair(champion, holdout.rule, champion_rule)))
            return Verdict(tuple(checks), None)
        holdout = holdout.unseen_by(champion_rule)
        if not len(holdout.frame):
            detail = f"version {champion.version} was trained on all held-out rows; train on a table with newer rows"
            checks.append(Check("holdout", False, detail))
            return Verdict(tuple(checks), None)
        answers = candidate.predict(holdout.frame)
        checks.append(Check("holdout", True, f"{len(holdout.frame)} rows were not used to train either model"))
    if champion.contract.task != candidate.contract.task:
        return Verdict(tuple(checks), None)
    theirs = champion.predict(holdout.frame)
    try:
        found = compare(
            rules.metric, holdout.truth, theirs, answers,
            resamples=rules.resamples, confidence=rules.confidence, seed=rules.seed,
        )  # fmt: skip
    except ValueError as error:
        checks.append(Check("better", False, str(error)))
        return Verdict(tuple(checks), None)
    checks.append(better(found, champion.version, f"{len(holdout.frame)} held-out rows", rules))
    checks += _groups(holdout, theirs, answers, rules)
    return Verdict(tuple(checks), found)


def verified(sha256: str, verification: Verification | None) -> Check:
    """Check that the verification passed, and that it belongs to the candidate with this digest."""
    if verification is None:
        remedy = "run python -m app.tools.verify and pass its result with --verification"
        return Check("verified", False, f"it is not verified: {remedy}")
    if not verification.passed:
        failed = "; ".join(f"{check.name}: {check.detail}" for check in verification.checks if not check.passed)
        return Check("verified", False, f"its verification failed: {failed}")
    if verification.model.sha256 != sha256:
        other = f"the verification belongs to a model with sha256 {verification.model.sha256}"
        return Check("verified", False, f"{other}, but the candidate has {sha256}")
    return Check("verified", True, f"verified by service {verification.service.get('version', '')}")


def _unfair(champion: "Registered", rule: "Rule", champion_rule: "Rule | None") -> str:
    theirs = champion_rule.sha256[:12] if champion_rule else "unknown"
    return (
        f"its held-out rows are {rule.sha256[:12]}, those of version {champion.version} are {theirs}: only models with "
        "the same held-out rows are compared; for a growing table, train both models with the same --holdout-key or "
        "--time-column"
    )


def limits(truth: Truth, answers: Any, allowed: dict[str, float]) -> Iterator[Check]:
    """Check that each metric of the candidate's answers reaches its limit."""
    for name, limit in allowed.items():
        metric = metric_of(name)
        value = metric.value(truth, answers)
        passed = metric.sign * value >= metric.sign * limit
        bound = "at least" if metric.sign > 0 else "at most"
        yield Check(f"limit of {name}", passed, f"{name} is {value:.6g}, {bound} {limit:g} is required")


def better(found: Comparison, champion_version: str, rows: str, rules: Rules) -> Check:
    """Check that the gain exceeds the margin. `rows` is the number of rows in words."""
    passed = found.low > rules.margin
    detail = (
        f"{found.metric} is {found.candidate:.6g} on {rows}, version {champion_version} "
        f"has {found.champion:.6g}: a gain of {found.gain:+.6g}, at least {found.low:+.6g} with {rules.confidence:.0%} "
        f"confidence; more than {rules.margin:+g} is required"
    )
    return Check("better", passed, detail)


def _groups(holdout: "Holdout", theirs: Any, answers: Any, rules: Rules) -> Iterator[Check]:
    """Compare both models in each group of rows, if the training named groups or the rules limit their loss."""
    allowed = rules.max_group_loss
    if holdout.slices is None:
        if allowed is not None:
            yield Check("groups", False, "it was trained without --group-metrics, which --max-group-loss needs")
        return
    worst = worst_group(holdout.truth, holdout.slices, theirs, answers, rules)
    if worst is None:
        yield Check("groups", allowed is None, "no group has enough held-out rows to be compared")
        return
    limit = "" if allowed is None else f"; a loss of at most {allowed:g} is allowed"
    yield Check("groups", allowed is None or worst.found.high >= -allowed, f"{worst.sentence(rules.confidence)}{limit}")
