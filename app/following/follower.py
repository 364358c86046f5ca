"""The thread that follows the alias in `model.uri`: it tries the version that the alias names, and then serves it.

Each pod polls MLflow, because MLflow's webhooks reach public addresses only, and because a controller would need
permissions for the Kubernetes API. A version is served only after it has passed the gate. The earlier model stays in
memory while the new one is on trial, and returns if requests fail. If MLflow does not respond, nothing changes.
"""

import gc
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from app.errors import LoadError
from app.following.candidate import fetched, loaded
from app.following.gate import RefusedError
from app.loaded import Lasting, Loaded, forget
from app.monitoring.following import FollowMetrics
from app.registry.client import RegistryClient
from app.registry.copies import Copy, remember
from app.registry.peer_server import Offer
from app.registry.peers import Peers
from app.registry.refusals import Refusal, Refusals
from app.registry.resolve import resolve
from app.settings import Settings
from app.uri import RegisteredModel

CALL_SECONDS = 20.0  # for MLflow's response about the alias
LEAST_REQUESTS = 20  # before the share of failed requests means anything
LONGEST_WAIT_SECONDS = 600.0  # between two attempts to download a version
KEPT_VERSIONS = 2  # whose series are exported
TURN_SECONDS = 0.5  # between two looks at the requests of a version on trial

State = Literal["settled", "downloading", "trying", "waiting", "watching"]

log = logging.getLogger(__name__)


class Follower:
    """What the service knows about the alias, and the thread that follows it.

    Args:
        settings: Settings of the service.
        source: Model and alias.
        first: Model that the service has started with.
        serve: Replaces the model that the service serves.
        lasting: What outlives a version.
        stopping: Set when the process is ending.
    """

    def __init__(
        self,
        settings: Settings,
        source: RegisteredModel,
        first: Loaded,
        serve: Callable[[Loaded], None],
        lasting: Lasting,
        stopping: threading.Event,
    ) -> None:
        self._settings, self._source, self._serve = settings, source, serve
        self._lasting, self._stopping = lasting, stopping
        self._served = first
        self._previous: Loaded | None = None  # returns if the served one fails its trial
        self._refusals = Refusals(settings.cache_dir, settings.revision)
        self._metrics = FollowMetrics(settings.served_name)
        self._exported = deque([first.version])
        self._state: State = "settled"
        self._named = ""
        self._checked_at: datetime | None = None
        self._attempts, self._next_attempt = 0, 0.0

    def offer(self, copy: Copy) -> Offer:
        """Return what other pods may take: the model that passed its trial.

        Args:
            copy: Description of the model that the service has started with.
        """
        settled = (self._previous or self._served).obtained
        return Offer(settled.copy or copy, settled.folder, self._refusals.to_json())

    def document(self) -> dict[str, Any]:
        """Return the state as JSON, for GET /model."""
        return {
            "alias": self._source.alias,
            "alias_version": self._named,
            "checked_at": self._checked_at.isoformat(timespec="seconds") if self._checked_at else None,
            "state": self._state,
            "previous": self._previous.version if self._previous else None,
            "refused": [each.document() for each in self._refusals.refused],
        }

    def run(self) -> None:
        """Follow the alias until the process ends."""
        while True:
            try:
                self._look()
            except Exception:  # a defect of the follower must not end a service that works
                log.error("unexpected failure while following the alias", exc_info=True)
                self._state = "settled"
            if self._stopping.wait(self._settings.follow_poll_seconds):
                return

    def _look(self) -> None:
        """Ask MLflow and the other pods, and replace the served model if the alias names a different version."""
        self._learn()
        if not (named := self._ask()):
            return
        if named == self._served.version:
            self._metrics.accept()
            self._confirm()
        elif refusal := self._refusals.of(named):
            self._metrics.refuse(named, refusal.sha256, refusal.reason)
        elif time.monotonic() >= self._next_attempt:
            self._replace(named)

    def _ask(self) -> str:
        """Return the version that the alias names, or "" if MLflow does not tell."""
        try:
            found = resolve(RegistryClient(self._settings, time.monotonic() + CALL_SECONDS), self._source)
        except LoadError as error:
            log.warning("the served model stays, because MLflow does not name its version: %s", error)
            return ""
        named = str(found["version"])
        if named != self._named:
            log.info("the alias names a version", extra={"alias": self._source.alias, "version": named})
            self._attempts, self._next_attempt = 0, 0.0
        self._named, self._checked_at = named, datetime.now(UTC)
        self._metrics.named(named)
        return named

    def _learn(self) -> None:
        self._refusals.learn(Peers(self._settings, time.monotonic() + CALL_SECONDS).refusals())

    def _confirm(self) -> None:
        """Note that MLflow names the served version."""
        obtained = self._served.obtained
        if obtained.copy and not obtained.confirmed:
            copy = replace(obtained.copy, confirmed=True)
            remember(self._settings.cache_dir, copy)
            self._served = replace(self._served, obtained=replace(obtained, copy=copy))
            self._served.metrics.confirm(True)
            self._serve(self._served)

    def _replace(self, version: str) -> None:
        """Try a version, and serve it or refuse it."""
        candidate = self._candidate(version)
        if candidate is None:
            return
        self._state = "waiting"
        self._stopping.wait(random.uniform(0, self._settings.follow_stagger_seconds))  # noqa: S311 - not a secret
        self._state = "settled"
        self._learn()
        # MLflow is asked once more, so that no pod replaces its model while the others cannot.
        if self._stopping.is_set() or self._ask() != version or self._refusals.of(version):
            forget(self._settings.served_name, version)
            return
        previous = self._served
        self._swap(candidate)
        self._state = "watching"
        self._watch(previous)
        self._state = "settled"

    def _candidate(self, version: str) -> Loaded | None:
        """Return the model of a version that passed the gate; None if it did not, or could not be obtained."""
        sha256 = ""
        try:
            self._state = "downloading"
            copy, folder, sha256 = fetched(self._settings, self._source, version, self._served)
            if known := self._refusals.of(version, sha256):
                raise RefusedError(known.reason, f"it has the files of version {known.version}: {known.cause}")
            self._state = "trying"
            return loaded(self._settings, copy, folder, self._served, self._lasting)
        except RefusedError as refused:
            self._refuse(version, sha256, refused)
        except LoadError as error:
            self._postpone(version, error)
        finally:
            self._state = "settled"
        return None

    def _refuse(self, version: str, sha256: str, refused: RefusedError) -> None:
        log.error("the version that the alias names is not served: %s", refused, extra=self._facts(version))
        self._refusals.add(self._refusals.new(version, sha256, refused.reason, str(refused)))
        self._metrics.refuse(version, sha256, refused.reason)
        self._metrics.reloaded("refused")

    def _postpone(self, version: str, error: LoadError) -> None:
        """Try again later, after a longer wait with each failure."""
        wait = min(self._settings.follow_poll_seconds * 2**self._attempts, LONGEST_WAIT_SECONDS)
        self._attempts, self._next_attempt = self._attempts + 1, time.monotonic() + wait
        facts = self._facts(version) | {"retry_in_seconds": round(wait, 1)}
        log.warning("the version that the alias names cannot be tried: %s", error, extra=facts)
        self._metrics.refuse(version, "", "unavailable")

    def _swap(self, candidate: Loaded) -> None:
        """Serve the candidate, and keep the model that was served until now."""
        self._refusals.start_trial(candidate.version, candidate.model.sha256)
        log.info("the service serves another version", extra=self._facts(candidate.version))
        self._previous = self._served
        self._take(candidate)
        self._metrics.accept()
        self._metrics.reloaded("swapped")
        if candidate.version in self._exported:
            self._exported.remove(candidate.version)
        self._exported.append(candidate.version)
        while len(self._exported) > KEPT_VERSIONS:
            forget(self._settings.served_name, self._exported.popleft())

    def _take(self, model: Loaded) -> None:
        """Serve a model. Requests in progress end with the one that they began with."""
        gc.collect()
        gc.freeze()  # as after the start: these objects stay
        self._served.metrics.withdraw()
        model.publish()
        self._served = model
        self._serve(model)

    def _watch(self, previous: Loaded) -> None:
        """Watch the requests of the served model, and return to the previous one if they fail, or the alias does."""
        settings, served = self._settings, self._served
        before = served.metrics.faults, served.metrics.requests
        begin = now = asked = time.monotonic()
        # Other pods swap and watch up to this much later; until then this one returns if one of them does.
        end = begin + settings.follow_watch_seconds + settings.follow_stagger_seconds + 2 * settings.follow_poll_seconds
        while now < end:
            if self._stopping.wait(min(TURN_SECONDS, settings.follow_poll_seconds)):
                return
            now = time.monotonic()
            if now < begin + settings.follow_watch_seconds and (cause := self._failing(before)):
                self._return(previous, self._refusals.new(served.version, served.model.sha256, "errors", cause))
                return
            if now < asked + settings.follow_poll_seconds:
                continue
            asked = now
            self._learn()
            if refusal := self._refusals.of(served.version):
                self._return(previous, refusal)
                return
            named = self._ask()
            if named == previous.version:
                self._return(previous, None)
                return
            if named not in ("", served.version):
                break  # the next look tries it
        self._settle()

    def _failing(self, before: tuple[int, int]) -> str:
        """Return why the served model must go, or "" if it works.

        Args:
            before: Number of failed and of predicted requests when it was first served.
        """
        metrics = self._served.metrics
        failed = metrics.faults - before[0]
        requests = metrics.requests - before[1] + failed
        if requests < LEAST_REQUESTS or failed <= self._settings.follow_max_error_ratio * requests:
            return ""
        return f"the model failed on {failed} of {requests} requests; see the log, and register a corrected version"

    def _settle(self) -> None:
        """Let go of the previous model."""
        self._previous = None
        self._refusals.end_trial()
        if copy := self._served.obtained.copy:
            remember(self._settings.cache_dir, copy)
        log.info("the version passed its trial", extra=self._facts(self._served.version))

    def _return(self, previous: Loaded, refusal: Refusal | None) -> None:
        """Serve the previous model again: because of a refusal, or because the alias names it again."""
        facts = self._facts(previous.version)
        self._take(previous)
        self._previous = None
        self._exported.reverse()
        if refusal is None:
            self._refusals.end_trial()
            log.info("the alias names the previous version again", extra=facts)
            self._metrics.reloaded("swapped")
            return
        self._refusals.add(refusal)
        log.error("the previous version is served again: %s", refusal.cause, extra=facts)
        self._metrics.refuse(refusal.version, refusal.sha256, refusal.reason)
        self._metrics.reloaded("rolled_back")

    def _facts(self, version: str) -> dict[str, Any]:
        return {"alias": self._source.alias, "version": version, "served_until_now": self._served.version}
