"""The ledger of promotions: the versions that an alias has named, in an order that is safe under concurrency.

MLflow's aliases have no compare-and-set: of two concurrent promotions the later one would win, although its candidate
was compared with an outdated champion. Only the parameters of a run are atomic in MLflow, because each can be written
once. Each move of an alias is therefore a parameter of one run, named by its number: the first process that writes
number 8 wins, and the second one gets an error.

The ledger decides, and the alias follows. If a promotion was interrupted before it moved the alias, the next one moves
it. Entries cannot be changed afterwards because they are parameters; tags could be.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Self
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

RUN_TAG = "promotions.run_id"
_DONE = "done."


@dataclass(frozen=True)
class Entry:
    """One move of the alias to `version`, whose digest is `sha256`. `previous` is empty for the first move."""

    action: Literal["promote", "rollback"]
    version: str
    sha256: str
    previous: str
    previous_sha256: str
    at: str = ""
    token: str = ""


class Ledger:
    """The moves of one alias of one registered model.

    Raises:
        mlflow.exceptions.MlflowException: MLflow is unreachable or refuses. Every method raises this.
    """

    def __init__(self, client: MlflowClient, name: str, alias: str, run_id: str) -> None:
        self._client = client
        self._name = name
        self._alias = alias
        self.run_id = run_id

    @classmethod
    def find(cls, client: MlflowClient, name: str, alias: str) -> Self | None:
        """Return the ledger, or None if nothing was ever promoted."""
        known = client.get_experiment_by_name(_title(name, alias))
        return cls(client, name, alias, known.tags[RUN_TAG]) if known else None

    @classmethod
    def open(cls, client: MlflowClient, name: str, alias: str, experiment_id: str) -> Self:
        """Return the ledger, which is created if necessary with its run in the experiment.

        The name of an experiment is unique and created together with its tags. If two processes create the ledger
        concurrently, both therefore get the same run.
        """
        if found := cls.find(client, name, alias):
            return found
        title = _title(name, alias)
        run_id = client.create_run(experiment_id, run_name=title).info.run_id
        client.set_terminated(run_id)
        note = f"The {title} are the parameters of run {run_id} in experiment {experiment_id}, in their order."
        try:
            client.create_experiment(title, tags={RUN_TAG: run_id, "mlflow.note.content": note})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = cls.find(client, name, alias)
        if made is None:
            raise MlflowException(f"experiment {title!r} was deleted; restore it")
        if made.run_id != run_id:
            client.delete_run(run_id)
        return made

    def entries(self) -> tuple[Entry, ...]:
        """Return the moves in order."""
        params = self._client.get_run(self.run_id).data.params
        return tuple(Entry(**json.loads(params[key])) for key in sorted(params, key=int))

    def append(self, after: int, entry: Entry) -> bool:
        """Write the entry after the first `after` ones. Return False if another process wrote this entry first."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = replace(
            entry, at=now, token=uuid4().hex
        )  # a retried call writes the same value, another process does not
        try:
            self._client.log_param(self.run_id, f"{after + 1:04}", json.dumps(asdict(entry)), synchronous=True)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE" and "hanging param" in str(error):
                return False
            raise
        return True

    def settle(self) -> None:
        """Move the alias to the version of the last entry. Several processes may do this concurrently."""
        head = len(self.entries())
        while head:
            entries = self.entries()
            head = len(entries)
            self._client.set_registered_model_alias(self._name, self._alias, entries[-1].version)
            self._client.set_tag(self.run_id, f"{_DONE}{head:04}", datetime.now(UTC).isoformat(timespec="seconds"))
            if len(self.entries()) == head:  # otherwise this call was late and may have moved the alias back
                return

    def repair(self) -> None:
        """Move the alias if the last promotion was interrupted before it did. Keep an alias that was moved by hand."""
        run = self._client.get_run(self.run_id)
        if run.data.params and f"{_DONE}{len(run.data.params):04}" not in run.data.tags:
            self.settle()


def earlier(entries: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """Return version and sha256 of the champions that a rollback can return to, the latest last.

    A rollback removes the champion that it leaves, so that the next rollback goes one step further back.
    """
    stack: list[tuple[str, str]] = []
    for entry in entries:
        if entry.action == "rollback":
            while stack and stack[-1][0] != entry.version:
                stack.pop()
            stack = stack or [(entry.version, entry.sha256)]
            continue
        if entry.previous and (not stack or stack[-1][0] != entry.previous):  # moved by hand before
            stack.append((entry.previous, entry.previous_sha256))
        stack.append((entry.version, entry.sha256))
    return tuple(stack[:-1])


def _title(name: str, alias: str) -> str:
    return f"promotions of {name}@{alias}"
