"""What became of an alias and why, as it is told and written to the version."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mlflow import MlflowClient

from training.errors import RefusedError
from training.gate import Check

TAG = "gate."

Outcome = Literal["promoted", "unchanged", "refused", "would be promoted", "rolled back", "would be rolled back"]

log = logging.getLogger("training")


@dataclass(frozen=True)
class Decision:
    """What became of the alias; `version` is the champion afterwards and `sha256` its file's, "" when there is none."""

    outcome: Outcome
    reason: str
    name: str
    alias: str
    version: str
    sha256: str
    checks: tuple[Check, ...] = ()

    @property
    def values(self) -> str:
        """Helm values that serve the champion: commit them, as an upgrade with the same alias starts no new pod."""
        return f"model:\n  uri: models:/{self.name}/{self.version}\n  sha256: {self.sha256}\n" if self.sha256 else ""

    def document(self) -> dict[str, Any]:
        """The decision as JSON."""
        values = {"model": {"uri": f"models:/{self.name}/{self.version}", "sha256": self.sha256}}
        return asdict(self) | {"values": values if self.sha256 else {}}


def report(decision: Decision, version: str) -> dict[str, Any]:
    """Tell people what was decided, and return it as JSON.

    Raises:
        RefusedError: the answer is no.
    """
    for check in decision.checks:
        log.info("%s  %s: %s", "passed" if check.passed else "FAILED", check.name, check.detail)
    sentence = f"{decision.name}@{decision.alias}: version {version or 'none'} {decision.outcome}: {decision.reason}."
    if decision.outcome == "refused":
        raise RefusedError(sentence, decision.document())
    log.info("%s", sentence)
    if not decision.outcome.startswith("would"):
        log.info("commit these values, as an upgrade with the same alias starts no new pod:\n%s", decision.values)
    return decision.document()


def write(client: MlflowClient, decision: Decision, version: str, facts: Mapping[str, str]) -> None:
    """Write the decision to the version, where people look for it, instead of an earlier one."""
    tags = {
        "decision": decision.outcome,
        "reason": decision.reason[:5000],
        "alias": decision.alias,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    } | dict(facts)
    for key in client.get_model_version(decision.name, version).tags:
        if key.startswith(TAG) and key.removeprefix(TAG) not in tags:
            client.delete_model_version_tag(decision.name, version, key)
    for key, value in tags.items():
        client.set_model_version_tag(decision.name, version, f"{TAG}{key}", value)
