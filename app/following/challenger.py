"""The thread that loads the challenger, after the model that is served, and follows its alias.

A version is tried in a process of its own before it is loaded, as for an alias that the service follows. Whatever
happens to the challenger, the served model and its readiness do not change.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from app.errors import LoadError
from app.following.gate import RefusedError, compare, try_loading
from app.loaded import Loaded
from app.loading import describe
from app.model.base import Model
from app.model.digest import DigestError, digest_of
from app.model.files import ModelFiles, Provenance
from app.model.xgboost import BoosterModel
from app.monitoring import challenger as metrics
from app.monitoring import feedback
from app.monitoring.shadow import Comparison, Shadow
from app.registry.client import RegistryClient
from app.registry.load import loader
from app.registry.obtain import download
from app.registry.resolve import resolve
from app.settings import Settings
from app.uri import ModelFolder, RegisteredModel, source_of

CALL_SECONDS = 20.0  # for MLflow's response about the version
LONGEST_WAIT_SECONDS = 600.0  # between two attempts to obtain a version
TURN_SECONDS = 1.0  # between two looks at the model that is served

State = Literal["loading", "comparing", "same", "refused", "unavailable"]

log = logging.getLogger(__name__)


class Challenger:
    """What the service knows about its challenger, and the thread that keeps it.

    Args:
        settings: Settings of the service.
        shadow: Where the challenger is compared.
        current: Returns the model that is served.
        stopping: Set when the process is ending.
    """

    def __init__(
        self, settings: Settings, shadow: Shadow, current: Callable[[], Loaded | None], stopping: threading.Event
    ) -> None:
        changes = {
            "model_uri": settings.challenger_uri,
            "model_name": settings.served_name,
            "model_sha256": settings.challenger_sha256,
            "cache_dir": settings.cache_dir / "challenger",
        }
        self._settings = settings.model_copy(update=changes)
        source = source_of(settings.challenger_uri)
        assert isinstance(source, RegisteredModel | ModelFolder)  # noqa: S101 - the settings have checked it
        self._source = source
        self._poll_seconds = settings.challenger_poll_seconds
        self._shadow, self._current, self._stopping = shadow, current, stopping
        self._model: BoosterModel | None = None
        self._tried: str | None = None  # version that was loaded or refused; None: none yet
        self._paired: tuple[Model | None, Model | None] = (None, None)  # the champion and the challenger
        self._labelled = ""  # version that has series of labels
        self._attempts, self._next_look = 0, 0.0
        self._state: State = "loading"
        self._version, self._reason, self._cause = "", "", ""

    def document(self) -> dict[str, Any]:
        """Return the state as JSON, for GET /model."""
        model = self._model
        return {
            "uri": self._settings.model_uri,
            "state": self._state,
            "version": model.provenance.version if model else self._version,
            "sha256": model.sha256 if model else "",
            "reason": self._reason,
            "cause": self._cause,
        }

    def run(self) -> None:
        """Keep the challenger until the process ends."""
        while True:
            try:
                self._look()
            except Exception:  # a defect here must not end a service that works
                log.error("unexpected failure while the challenger was loaded", exc_info=True)
            if self._stopping.wait(min(TURN_SECONDS, self._poll_seconds)):
                return

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._next_look and (self._tried is None or self._follows):
            self._next_look = now + self._poll_seconds
            self._obtain()
        served = self._current()
        if served is None or self._model is None:
            return
        champion, challenger = self._paired
        if champion is not served.model or challenger is not self._model:
            self._pair(served.model, self._model)
        elif self._state == "comparing" and (comparison := self._shadow.comparison) and comparison.failing:
            if comparison.slow:
                self._refuse("slow", "it delayed requests; use fewer trees, or compare it without labels")
            else:
                self._refuse("errors", "it failed several times in a row; see the log, and register another version")

    @property
    def _follows(self) -> bool:
        return isinstance(self._source, RegisteredModel) and bool(self._source.alias)

    def _obtain(self) -> None:
        """Load the version that the URI names, unless it was tried before."""
        try:
            if (named := self._named()) == self._tried:
                return
            self._version = named
            model = self._load()
        except RefusedError as refused:
            self._tried, self._attempts, self._model = self._version, 0, None
            self._refuse(refused.reason, str(refused))
        except LoadError as error:
            self._postpone(error)
        else:
            self._tried, self._attempts = named, 0
            self._model = model

    def _named(self) -> str:
        """Return the version that the URI names, "" for a folder."""
        if not isinstance(self._source, RegisteredModel):
            return ""
        client = RegistryClient(self._settings, time.monotonic() + CALL_SECONDS)
        return str(resolve(client, self._source)["version"])

    def _load(self) -> BoosterModel:
        """Return the model that the URI names, after it has been tried in a process of its own.

        Raises:
            RefusedError: A check failed.
            LoadError: It cannot be obtained or tried now.
        """
        settings = self._settings
        folder, provenance = self._files()
        files = ModelFiles(folder, to_load=False)
        if not files.model_file or files.model_file not in files:
            raise LoadError(f"{folder} does not contain an XGBoost model", "log it with mlflow.xgboost.log_model")
        sha256 = digest_of(files.digests())
        if settings.model_sha256 not in ("", sha256):
            cause = f"its digest is {sha256}, but {settings.model_sha256} is pinned; correct one of them"
            raise RefusedError("digest", cause)
        try_loading(settings, folder / files.model_file, provenance)
        try:
            model = loader(settings)(folder, provenance)
        except LoadError as error:
            raise RefusedError("load", str(error)) from None
        assert isinstance(model, BoosterModel)  # noqa: S101 - the settings require this flavor
        return model

    def _files(self) -> tuple[Path, Provenance]:
        """Return the folder of the model and its origin."""
        source = self._source
        try:
            if not isinstance(source, RegisteredModel):
                return source.path, Provenance(self._settings.served_name, version="", uri=self._settings.model_uri)
            deadline = time.monotonic() + self._settings.load_timeout_seconds
            folder, provenance, _ = download(self._settings, source, deadline)
        except DigestError as error:
            raise RefusedError("digest", str(error)) from None
        return folder, provenance

    def _pair(self, champion: Model, model: BoosterModel) -> None:
        """Compare the challenger with the model that is served now."""
        assert isinstance(champion, BoosterModel)  # noqa: S101 - the settings require this flavor
        self._paired = (champion, model)
        facts = {"version": model.provenance.version, "served": champion.provenance.version}
        if model.sha256 == champion.sha256:
            self._shadow.comparison = None
            metrics.withdraw(champion.provenance.name)
            self._state, self._reason, self._cause = "same", "", ""
            log.info("the challenger is the served model", extra=facts)
            return
        try:
            compare(champion, model)
            comparison = Comparison(self._settings, champion, model)
        except RefusedError as refused:
            self._refuse(refused.reason, str(refused))
        except LoadError as error:
            self._refuse("interface", str(error))
        else:
            self._prepare_labels(model.provenance.version)
            self._shadow.comparison = comparison
            self._state, self._reason, self._cause = "comparing", "", ""
            log.info("the challenger is compared", extra=facts)

    def _prepare_labels(self, version: str) -> None:
        """Create the series of labels for the challenger, and remove those of the one before."""
        served = self._current()
        if not self._settings.challenger_labels or served is None or served.feedback is None:
            return
        if self._labelled not in ("", version, served.version):
            feedback.forget(self._settings.served_name, self._labelled)
        self._labelled = version
        served.feedback.prepare(version)

    def _refuse(self, reason: str, cause: str) -> None:
        """Stop the comparison, until the URI names another version or another model is served."""
        version = self._model.provenance.version if self._model else self._version
        self._report("refused", version, reason, cause)
        log.error("the challenger is not compared: %s", cause, extra={"version": version, "reason": reason})

    def _postpone(self, error: LoadError) -> None:
        """Try again later, after a longer wait with each failure. A challenger that is compared already stays."""
        wait = min(self._poll_seconds * 2**self._attempts, LONGEST_WAIT_SECONDS)
        self._attempts, self._next_look = self._attempts + 1, time.monotonic() + wait
        log.warning("the challenger cannot be loaded: %s", error, extra={"retry_in_seconds": round(wait, 1)})
        if self._model is None:
            self._report("unavailable", self._version, "unavailable", describe(self._settings, error))

    def _report(self, state: State, version: str, reason: str, cause: str) -> None:
        self._shadow.comparison = None
        self._state, self._reason, self._cause = state, reason, cause
        metrics.refuse(self._settings.served_name, version, reason)
