"""The outcome of a promotion or rollback, as it is logged, printed and written to the version."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from training.errors import RefusedError
from training.gate.judge import Check
from training.gate.promotion import Promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "gate."

Outcome = Literal["promoted", "unchanged", "refused", "would be promoted", "rolled back", "would be rolled back"]

log = logging.getLogger("training")


@dataclass(frozen=True)
class Decision:
    """Outcome of a promotion or rollback.

    Args:
        version: The champion afterwards, empty if there is none.
        sha256: Digest of the champion, empty if there is none.
        checks: Checks of the gate.
        evidence: Digests and measurements behind the decision, written to the version as tags.
    """

    outcome: Outcome
    reason: str
    name: str
    alias: str
    version: str
    sha256: str
    checks: tuple[Check, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> str:
        """Helm values that serve the champion. Commit them: an upgrade with the same alias does not start a new pod."""
        return f"model:\n  uri: models:/{self.name}/{self.version}\n  sha256: {self.sha256}\n" if self.sha256 else ""

    def sentence(self, version: str) -> str:
        """The outcome for a version in one sentence."""
        return f"{self.name}@{self.alias}: version {version or 'none'} {self.outcome}: {self.reason}."

    def document(self) -> dict[str, Any]:
        """The decision as JSON."""
        values = {"model": {"uri": f"models:/{self.name}/{self.version}", "sha256": self.sha256}}
        document = asdict(self) | {"values": values if self.sha256 else {}}
        del document["evidence"]
        return document


def report(decision: Decision, version: str) -> dict[str, Any]:
    """Log the decision, and return it as JSON.

    Raises:
        RefusedError: The gate refused.
    """
    for check in decision.checks:
        log.info("%s  %s: %s", "passed" if check.passed else "FAILED", check.name, check.detail)
    sentence = decision.sentence(version)
    if decision.outcome == "refused":
        raise RefusedError(sentence, decision.document())
    log.info("%s", sentence)
    if decision.values and not decision.outcome.startswith("would"):
        log.info(
            "commit these values, because an upgrade with the same alias does not start a new pod:\n%s", decision.values
        )
    return decision.document()


def earlier(client: "MlflowClient", promotion: Promotion) -> str:
    """Return what the gate decided about the version and the alias before, or ""."""
    tags = client.get_model_version(promotion.name, promotion.version).tags
    known = {key.removeprefix(TAG): value for key, value in tags.items() if key.startswith(TAG)}
    if known.get("alias") != promotion.alias:
        return ""
    return f"the gate has already decided ({known['decision']} at {known['at']}): {known['reason']}"


def write(client: "MlflowClient", decision: Decision, version: str) -> None:
    """Write the decision to the tags of the version, and remove those of an earlier decision."""
    tags = {
        "decision": decision.outcome,
        "reason": decision.reason[:5000],
        "alias": decision.alias,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    } | dict(decision.evidence)
    for key in client.get_model_version(decision.name, version).tags:
        if key.startswith(TAG) and key.removeprefix(TAG) not in tags:
            client.delete_model_version_tag(decision.name, version, key)
    for key, value in tags.items():
        client.set_model_version_tag(decision.name, version, f"{TAG}{key}", value)
