"""Move the alias back to the champion before."""

import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from training import registered
from training.decision import Decision, write
from training.ledger import Entry, Ledger, earlier
from training.registered import UnusableError


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
