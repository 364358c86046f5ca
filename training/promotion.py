"""Move the alias to a version that passes the gate; the reason is written to the version.

The ledger makes it right when several promote at once: a candidate that was compared with a champion that is none any
more has lost, and says so.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from training import holdout, registered
from training.compare import DEFAULT_METRIC, METRICS
from training.decision import Decision, write
from training.errors import InputError
from training.gate import Rules, Verdict, judge
from training.holdout import HoldoutError
from training.ledger import Entry, Ledger
from training.registered import Registered, UnusableError


@dataclass(frozen=True)
class Seen:
    """How things stood when the promotion began; whoever changes them meanwhile has won."""

    ledger: Ledger | None
    entries: int
    champion: str


def promote(
    client: MlflowClient,
    name: str,
    version: str,
    alias: str,
    rules: Rules,
    verification: dict[str, Any] | None,
    *,
    dry_run: bool,
) -> Decision:
    """Let the gate judge the version and move the alias when it passes.

    Raises:
        InputError: a metric of the rules is none of the model's task.
        mlflow.exceptions.MlflowException, OSError: MLflow does not answer or refuses.
    """
    ledger = Ledger.find(client, name, alias)
    if ledger and not dry_run:
        ledger.mend()
    known = len(ledger.entries()) if ledger else 0
    seen = Seen(ledger, known, registered.alias_version(client, name, alias))
    facts: dict[str, str] = {}
    decision = _decide(
        client, Decision("refused", "", name, alias, seen.champion, ""), version, rules, verification, facts
    )
    if decision.outcome == "promoted":
        if dry_run:
            return replace(decision, outcome="would be promoted")
        decision = _move(client, seen, decision, facts)
    elif not dry_run and decision.outcome == "refused":
        write(client, decision, version, facts)
    return decision


def _decide(
    client: MlflowClient,
    base: Decision,
    version: str,
    rules: Rules,
    verification: dict[str, Any] | None,
    facts: dict[str, str],
) -> Decision:
    """Return what should become of the alias, and fill in the facts that it is decided by."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            candidate = registered.read(client, base.name, version, Path(folder, "candidate"))
        except UnusableError as error:
            return replace(base, reason=f"it {error}")
        facts["sha256"] = candidate.sha256
        champion = None
        if base.version:
            try:
                champion = registered.read(client, base.name, base.version, Path(folder, "champion"))
            except UnusableError as error:
                remedy = "delete the alias to promote without a comparison"
                return replace(base, reason=f"the champion, version {base.version}, {error}; {remedy}")
            base = replace(base, sha256=champion.sha256)
            facts |= {"compared_with": champion.version, "compared_sha256": champion.sha256}
    if champion and champion.sha256 == candidate.sha256:
        same = "it is the champion" if champion.version == version else f"version {champion.version} has the same bytes"
        return replace(base, outcome="unchanged", reason=f"{same}, so there is nothing to do")
    rules = _rules_for(candidate, rules)
    try:
        rows = holdout.reload(client, candidate.run_id)
    except HoldoutError as error:
        return replace(base, reason=str(error))
    before = holdout.digest(client, champion.run_id) if champion else ""
    verdict = judge(candidate, champion, rows, before, verification, rules)
    facts |= {"holdout_sha256": rows.sha256} | _measured(verification, verdict)
    base = replace(base, reason=verdict.reason, checks=verdict.checks)
    if not verdict.passed:
        return base
    return replace(base, outcome="promoted", version=version, sha256=candidate.sha256)


def _move(client: MlflowClient, seen: Seen, decision: Decision, facts: dict[str, str]) -> Decision:
    """Move the alias, unless somebody else has moved it since."""
    name, alias, version = decision.name, decision.alias, decision.version
    run_id = str(client.get_model_version(name, version).run_id)
    ledger = seen.ledger or Ledger.open(client, name, alias, client.get_run(run_id).info.experiment_id)
    entry = Entry("promote", version, decision.sha256, seen.champion, facts.get("compared_sha256", ""))
    if registered.alias_version(client, name, alias) == seen.champion and ledger.append(seen.entries, entry):
        write(client, decision, version, facts)
        ledger.settle()
        return decision
    entries = ledger.entries()
    now = entries[-1].version if len(entries) > seen.entries else registered.alias_version(client, name, alias)
    if now == version:
        return replace(decision, outcome="unchanged", reason="another process promoted it meanwhile")
    reason = f"version {now} became the champion while this one was compared with another; promote it again"
    decision = replace(decision, outcome="refused", reason=reason, version=now, sha256="")
    write(client, decision, version, facts)
    return decision


def _rules_for(candidate: Registered, rules: Rules) -> Rules:
    task = candidate.contract.task
    rules = replace(rules, metric=rules.metric or DEFAULT_METRIC[task])
    for name in (rules.metric, *rules.limits):
        if task not in METRICS[name].tasks:
            fitting = ", ".join(known for known, metric in METRICS.items() if task in metric.tasks)
            raise InputError(f"{name} is no metric of a {task} model, whose metrics are {fitting}.")
    return rules


def _measured(verification: dict[str, Any] | None, verdict: Verdict) -> dict[str, str]:
    facts = {}
    if verification:
        service = verification["service"]
        known = (service.get("version"), service.get("git_commit"), service.get("image"))
        facts["verified_by"] = " ".join(filter(None, known))
    if found := verdict.comparison:
        facts |= {
            "metric": found.metric,
            "value": f"{found.candidate:.9g}",
            "compared_value": f"{found.champion:.9g}",
            "gain": f"{found.gain:.9g}",
            "gain_low": f"{found.low:.9g}",
        }
    return facts
