"""Metrics of a service that follows an alias."""

from prometheus_client import Counter, Gauge

OUTCOMES = ("swapped", "refused", "rolled_back")

RELOADS = Counter("model_reloads_total", "Versions that an alias named, by outcome.", ["model_name", "outcome"])
REFUSED = Gauge(
    "model_reload_refused_info",
    "Version that the alias names and that this pod does not serve; always 1.",
    ["model_name", "model_version", "sha256", "reason"],
)
CHECKED = Gauge(
    "model_alias_checked_timestamp_seconds",
    "Unix time of the last response of MLflow about the alias; before the first, of the start.",
    ["model_name"],
)
NAMED = Gauge("model_alias_version", "Version that the alias names.", ["model_name"])


class FollowMetrics:
    """The children of one model's metrics."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Created at load, because rate() does not see the first increase of a new counter.
        self._reloads = {outcome: RELOADS.labels(name, outcome) for outcome in OUTCOMES}
        self._checked, self._named = CHECKED.labels(name), NAMED.labels(name)
        self._checked.set_to_current_time()

    def named(self, version: str) -> None:
        """Record that MLflow responded."""
        self._checked.set_to_current_time()
        self._named.set(int(version))

    def reloaded(self, outcome: str) -> None:
        """Count an outcome, one of `OUTCOMES`."""
        self._reloads[outcome].inc()

    def refuse(self, version: str, sha256: str, reason: str) -> None:
        """Export that the version that the alias names is not served."""
        self.accept()
        REFUSED.labels(self._name, version, sha256, reason).set(1)

    def accept(self) -> None:
        """Remove what `refuse` exported."""
        REFUSED.remove_by_labels({"model_name": self._name})
