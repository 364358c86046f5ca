"""The second HTTP server, for probes and scrapes only, which is not meant for clients of the API.

It has a thread and an event loop of its own, so that a flood of requests to it does not hold up predictions.
"""

import threading
from typing import Any, cast

from app.http.server import MOST_HEAD_BYTES, LimitedServer, configuration
from app.service import Service

STOP_SECONDS = 2


class MonitoringServer(LimitedServer):
    """The server on `monitoring_port`.

    Args:
        app: ASGI application with the endpoints of health and metrics.
        service: State of the process, with the settings; it fails if the port cannot be used.
    """

    def __init__(self, app: Any, service: Service) -> None:
        port = cast(int, service.settings.monitoring_port)
        own = {"lifespan": "off", "timeout_graceful_shutdown": STOP_SECONDS}
        super().__init__(configuration(app, service.settings, port, MOST_HEAD_BYTES, **own), service)
        self._thread = threading.Thread(target=self._run_in_thread, name="monitoring", daemon=True)

    def start(self) -> None:
        """Listen, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, after the requests in progress."""
        self.should_exit = True
        self._thread.join(2 * STOP_SECONDS)

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except SystemExit:  # uvicorn has logged the reason
            self._service.fail(f"The monitoring port {self.config.port} cannot be used: set a free MONITORING_PORT.")
