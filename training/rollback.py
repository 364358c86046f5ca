"""The command `rollback`: move the alias back to the champion before."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from pydantic import Field

from training import registered
from training.decision import Decision, report, write
from training.ledger import Entry, Ledger, earlier
from training.registered import UnusableError
from training.settings import Alias, Settings
from training.tracking import answering


class Options(Settings):
    """Move the alias back to the champion before, again and again up to the first."""

    alias: Alias = Field(default="champion", description="Alias that moves.")
    dry_run: bool = Field(default=False, description="Say what would be done; change nothing.")


def run(options: Options) -> dict[str, Any]:
    """Move the alias back; return the decision.

    Raises:
        RefusedError: there is nothing to go back to, or its bytes were changed.
        TrackingError: MLflow does not answer or refuses.
    """
    with answering(options.mlflow_tracking_uri):
        decision = rollback(mlflow.MlflowClient(), options.model_name, options.alias, dry_run=options.dry_run)
    return report(decision, decision.version)


def rollback(client: MlflowClient, name: str, alias: str, *, dry_run: bool) -> Decision:
    """Move the alias back, once the bytes are seen to be those that were promoted then.

    Raises:
        mlflow.exceptions.MlflowException, OSError: MLflow does not answer or refuses.
    """
    ledger = Ledger.find(client, name, alias)
    if ledger and not dry_run:
        ledger.mend()
    entries = ledger.entries() if ledger else ()
    now = registered.alias_version(client, name, alias)
    stack = earlier(entries)
    if entries and now != entries[-1].version:  # moved by hand since: back to what the ledger knows
        stack = (*stack, (entries[-1].version, entries[-1].sha256))
    refused = Decision("refused", "", name, alias, now, "")
    if not stack or ledger is None:
        return replace(refused, reason=f"no champion before {f'version {now}' if now else 'now'} is known")
    version, sha256 = stack[-1]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = registered.read(client, name, version, Path(folder)).sha256
        except UnusableError as error:
            return replace(refused, reason=f"version {version} {error}")
    if found != sha256:
        changed = f"version {version} was the champion with sha256 {sha256}, but MLflow gives out {found}"
        return replace(refused, reason=f"{changed}: find out who changed it")
    back = f"from version {now}" if now else "as there is no champion"
    done = Decision("rolled back", f"to version {version}, {back}", name, alias, version, sha256)
    if dry_run:
        return replace(done, outcome="would be rolled back")
    if not ledger.append(len(entries), Entry("rollback", version, sha256, now, "")):
        return replace(refused, reason="another promotion or rollback came first; look at the champion again")
    for each in {version, now} - {""}:
        write(client, done, each, {})
    ledger.settle()
    return done
