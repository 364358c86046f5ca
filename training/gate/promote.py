"""Promotion of a version: the gate decides, then the alias moves. The reason is written to the version.

The ledger orders concurrent promotions: a candidate that was compared with an outdated champion is refused.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow import MlflowClient

from training.gate import holdout, named_data
from training.gate.decision import Decision, earlier, write
from training.gate.holdout import HoldoutError
from training.gate.judge import Verdict, judge
from training.gate.ledger import Entry, Ledger
from training.gate.live import with_live
from training.gate.promotion import Promotion
from training.tracking import registered
from training.tracking.registered import UnusableError

_DEFAULT_EXPERIMENT = "0"  # MLflow's own, for a version without a run


@dataclass(frozen=True)
class Start:
    """The ledger, its length and the champion when the promotion began."""

    ledger: Ledger | None
    entries: int
    champion: str


def promote(client: MlflowClient, promotion: Promotion) -> Decision:
    """Judge the candidate, and move the alias if it passes.

    Raises:
        InputError: A metric of the rules does not apply to the model's task.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    ledger = Ledger.find(client, promotion.name, promotion.alias)
    if ledger and not promotion.dry_run:
        ledger.repair()
    entries = len(ledger.entries()) if ledger else 0
    start = Start(ledger, entries, registered.alias_version(client, promotion.name, promotion.alias))
    if promotion.once and start.champion and (made := earlier(client, promotion)):
        return Decision("unchanged", made, promotion.name, promotion.alias, start.champion, "")
    if promotion.data:
        decision = named_data.decide(client, promotion, promotion.data, start.champion)
    else:
        decision = _decide(client, promotion, start.champion)
    if decision.outcome == "promoted":
        return replace(decision, outcome="would be promoted") if promotion.dry_run else _move(client, start, decision)
    if decision.outcome == "refused" and not promotion.dry_run:
        write(client, decision, promotion.version)
    return decision


def _decide(client: MlflowClient, promotion: Promotion, champion_version: str) -> Decision:
    """Return the gate's decision and its evidence; change nothing."""
    name, version = promotion.name, promotion.version
    refused = Decision("refused", "", name, promotion.alias, champion_version, "")
    champion = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            candidate = registered.read(client, name, version, Path(folder, "candidate"))
        except UnusableError as error:
            return replace(refused, reason=f"it {error}")
        refused = replace(refused, evidence={"sha256": candidate.sha256})
        if champion_version:
            try:
                champion = registered.read(client, name, champion_version, Path(folder, "champion"))
            except UnusableError as error:
                remedy = "delete the alias to promote without a comparison"
                return replace(refused, reason=f"the champion, version {champion_version}, {error}; {remedy}")
            compared = {"compared_with": champion.version, "compared_sha256": champion.sha256}
            refused = replace(refused, sha256=champion.sha256, evidence={**refused.evidence, **compared})
    if champion and champion.same_answers(candidate):
        same = "it is the champion" if champion.version == version else f"version {champion.version} is the same model"
        return replace(refused, outcome="unchanged", reason=f"{same}, so there is nothing to do")
    promotion = replace(promotion, rules=promotion.rules.for_model(candidate.contract))
    try:
        rows = holdout.reload(client, candidate.run_id)
    except HoldoutError as error:
        return replace(refused, reason=str(error))
    champion_rule = holdout.rule(client, champion.run_id) if champion else None
    verdict = judge(promotion, candidate, champion, rows, champion_rule)
    verdict, live = with_live(promotion, verdict, champion_version, candidate.sha256)
    evidence = {**refused.evidence, "holdout_sha256": rows.rule.sha256, **_measured(promotion, verdict), **live}
    judged = replace(refused, reason=verdict.reason, checks=verdict.checks, evidence=evidence)
    return replace(judged, outcome="promoted", version=version, sha256=candidate.sha256) if verdict.passed else judged


def _move(client: MlflowClient, start: Start, decision: Decision) -> Decision:
    """Move the alias, unless another process has moved it since the start."""
    name, alias, version = decision.name, decision.alias, decision.version
    run_id = client.get_model_version(name, version).run_id
    experiment = client.get_run(run_id).info.experiment_id if run_id else _DEFAULT_EXPERIMENT
    ledger = start.ledger or Ledger.open(client, name, alias, experiment)
    entry = Entry("promote", version, decision.sha256, start.champion, decision.evidence.get("compared_sha256", ""))
    if registered.alias_version(client, name, alias) == start.champion and ledger.append(start.entries, entry):
        write(client, decision, version)
        ledger.settle()
        return decision
    entries = ledger.entries()
    now = entries[-1].version if len(entries) > start.entries else registered.alias_version(client, name, alias)
    if now == version:
        return replace(decision, outcome="unchanged", reason="another process promoted it at the same time")
    reason = f"version {now} became the champion during the comparison; promote this version again"
    decision = replace(decision, outcome="refused", reason=reason, version=now, sha256="")
    write(client, decision, version)
    return decision


def _measured(promotion: Promotion, verdict: Verdict) -> dict[str, str]:
    """Return the verification and the measurements of the comparison, as tags."""
    evidence = {"verified_by": promotion.verification.verified_by} if promotion.verification else {}
    return evidence | (verdict.comparison.evidence() if verdict.comparison else {})
