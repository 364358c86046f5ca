"""Rollback of an alias to the previous champion."""

import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from app.model.digest import coverage, digest_of
from training.gate.decision import Decision, write
from training.gate.ledger import Entry, Ledger, earlier
from training.tracking import registered
from training.tracking.registered import UnusableError


def rollback(client: MlflowClient, name: str, alias: str, *, dry_run: bool) -> Decision:
    """Move the alias back, after a check that its files are those that were promoted.

    Raises:
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    ledger = Ledger.find(client, name, alias)
    if ledger and not dry_run:
        ledger.repair()
    entries = ledger.entries() if ledger else ()
    now = registered.alias_version(client, name, alias)
    stack = earlier(entries)
    if entries and now != entries[-1].version:  # moved by hand since then: return to the last entry
        stack = (*stack, (entries[-1].version, entries[-1].sha256))
    refused = Decision("refused", "", name, alias, now, "")
    if not stack or ledger is None:
        return replace(refused, reason=f"the ledger has no champion before {f'version {now}' if now else 'now'}")
    version, sha256 = stack[-1]
    with tempfile.TemporaryDirectory() as folder:
        try:
            files, model_file = registered.digests_of(name, version, Path(folder))
        except UnusableError as error:
            return replace(refused, reason=f"version {version} {error}")
    now_sha256 = digest_of(files)
    if not coverage(files, model_file, sha256):
        changed = f"version {version} was the champion with sha256 {sha256}, but MLflow now returns {now_sha256}"
        return replace(refused, reason=f"{changed}: find out who changed its files")
    back = f"from version {now}" if now else "as there is no champion"
    done = Decision("rolled back", f"to version {version}, {back}", name, alias, version, now_sha256)
    if dry_run:
        return replace(done, outcome="would be rolled back")
    if not ledger.append(len(entries), Entry("rollback", version, now_sha256, now, "")):
        return replace(refused, reason="another promotion or rollback was faster; check the champion and try again")
    for each in {version, now} - {""}:
        write(client, done, each)
    ledger.settle()
    return done
