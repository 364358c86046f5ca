"""Process state: the loaded model, and readiness."""

import asyncio
import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, MutableSet
from dataclasses import replace

from app.errors import LoadError
from app.following.challenger import Challenger
from app.following.follower import Follower
from app.limits import Limits
from app.loaded import Lasting, Loaded, equip
from app.loading import Times, keep_trying, leave_message
from app.model.base import Model
from app.monitoring.candidate import watch
from app.monitoring.segment_writer import SegmentWriter
from app.monitoring.shadow import Shadow
from app.registry.load import load_model
from app.registry.obtain import Obtained, confirm
from app.registry.peer_server import Offer, PeerServer
from app.registry.peers import share, token_of
from app.settings import Settings
from app.uri import RegisteredModel

CONFIRM_SECONDS = 30.0
STUCK_SECONDS = 10.0  # without a turn of the event loop; a request holds it for milliseconds
DOWNLOAD_SECONDS = 600.0  # between downloads of a model whose version only its files show

log = logging.getLogger(__name__)


class Service:
    """State of the process: the model that it serves, and whether it is shutting down.

    The model is loaded in a daemon thread, so neither a slow download nor a long wait keeps the process alive.

    Args:
        settings: Model to load, its origin, and limits.
        on_failure: Called once, from the loading thread, if the model cannot be loaded.
    """

    def __init__(self, settings: Settings, on_failure: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.loaded: Loaded | None = None
        self.follower: Follower | None = None  # None: no alias is followed, or no model is loaded yet
        self.requests: MutableSet[asyncio.Task[None]] = set()  # those in progress; the server of the API sets it
        self.closing = asyncio.Event()  # set on the event loop of the API once no further requests are accepted
        self.limits = Limits(settings, settings.max_concurrency)
        self.limits.publish()
        self._on_failure = on_failure
        self._last_problem = ""
        self._stopping = threading.Event()
        shadow = Shadow(settings, self._stopping) if settings.challenger_uri else None
        self.challenger = Challenger(settings, shadow, lambda: self.loaded, self._stopping) if shadow else None
        self._segments = SegmentWriter(settings.payload_dir, settings) if settings.payload_dir else None
        self._lasting = Lasting(OrderedDict(), shadow, self._segments)
        self._turned: float | None = None

    def note_loop(self) -> None:
        """Note that the event loop of the API runs. Its server calls this several times a second."""
        self._turned = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether the event loop of the API has not run for `STUCK_SECONDS`."""
        turned = self._turned
        return turned is not None and not self._stopping.is_set() and time.monotonic() - turned > STUCK_SECONDS

    def start(self) -> None:
        """Start loading in the background."""
        if self._segments:
            self._segments.start()
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()

    def drain(self) -> None:
        """Fail readiness from now on; requests are still answered. Safe in a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Write what the inference log still has in memory. No request is answered any more."""
        if self._segments:
            self._segments.close()

    @property
    def reasons(self) -> list[str]:
        """Reasons why this process should receive no requests; empty if it is ready."""
        found = []
        if self._stopping.is_set():
            found.append("shutting down")
        if self.loaded is None:
            found.append(self._last_problem or f"loading {self.settings.model_uri}")
        elif problem := self.loaded.model.problem:
            found.append(problem)
        if self.limits.saturated:
            found.append("saturated: all slots are in use and requests are rejected")
        return found

    def _run(self) -> None:
        """Load the model, and retry until it is loaded, the deadline passes or the process shuts down."""
        try:
            loaded = keep_trying(self.settings, self._attempt, self._note, self._stopping)
        except LoadError:
            if self._on_failure:
                self._on_failure(self._last_problem)
            return
        if loaded is None:
            return
        # These objects stay for the lifetime of the process, so exclude them from garbage collection.
        gc.collect()
        gc.freeze()
        self.loaded = loaded  # last, so that no request waits for the collector
        self._challenge()
        source = self.settings.source
        if self.settings.candidate_poll_seconds and isinstance(source, RegisteredModel):
            watching = (self.settings, source, self._stopping)
            threading.Thread(target=watch, args=watching, name="candidate", daemon=True).start()
        if self.settings.follows and isinstance(source, RegisteredModel):
            self.follower = Follower(self.settings, source, loaded, self._serve, self._lasting, self._stopping)
            self.follower.run()
        else:
            self._confirm(loaded)

    def _challenge(self) -> None:
        """Load the challenger in the background, now that the model is served."""
        if self.challenger and self._lasting.shadow:
            threading.Thread(target=self.challenger.run, name="challenger-loader", daemon=True).start()
            threading.Thread(target=self._lasting.shadow.run, name="challenger", daemon=True).start()

    def _serve(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def _attempt(self, times: Times) -> Loaded:
        obtained = load_model(self.settings, times.deadline, times.patient_until)
        loaded = equip(self.settings, obtained, times.started, self._lasting)
        loaded.publish()
        self._offer(loaded.obtained)
        seconds = round(time.monotonic() - times.started, 2)
        known = loaded.model.provenance
        origin = loaded.obtained.origin
        log.info("ready", extra={"uri": known.uri, "version": known.version, "origin": origin, "seconds": seconds})
        return loaded

    def _note(self, sentence: str) -> None:
        self._last_problem = sentence

    def _offer(self, obtained: Obtained[Model]) -> None:
        """Offer the model to the other pods of the release."""
        settings, copy = self.settings, obtained.copy
        if copy is None or not share(settings):
            return

        def offered() -> Offer:
            if self.follower:
                return self.follower.offer(copy)
            return Offer((self.loaded and self.loaded.obtained.copy) or copy, obtained.folder)

        try:
            PeerServer(settings.peers_port, token_of(settings), offered).start()
        except OSError as error:
            log.warning("other pods cannot copy the model from this one: port %s: %s", settings.peers_port, error)

    def _confirm(self, loaded: Loaded) -> None:
        """Ask the source for the version of a copy, until it names the one that is served."""
        registered = isinstance(self.settings.source, RegisteredModel)
        pause = CONFIRM_SECONDS if registered else DOWNLOAD_SECONDS
        while not loaded.obtained.confirmed and not self._stopping.wait(pause):
            try:
                loaded = replace(loaded, obtained=confirm(self.settings, loaded.obtained, time.monotonic() + pause))
            except LoadError as error:
                log.info("the source does not confirm the model: %s", error)
            loaded.metrics.confirm(loaded.obtained.confirmed)
            self.loaded = loaded

    def fail(self, sentence: str) -> None:
        """End the process with the reason in the log and the termination message."""
        log.error(sentence)
        leave_message(self.settings.termination_message_path, sentence)
        if self._on_failure:
            self._on_failure(sentence)
