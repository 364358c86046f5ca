"""Log lines about refused callers."""

import logging
import threading
from collections import OrderedDict

BETWEEN_SECONDS = 60.0  # lines about one caller
MOST_LINES = 10  # per second, about all callers together
MOST_CALLERS = 1000

log = logging.getLogger(__name__)


class Audit:
    """Logs the first refusal of each caller, and then at most one line a minute with the number of refusals.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._second, self._lines = 0, 0

    def refused(self, caller: str, why: str, now: float) -> None:
        """Note a refusal.

        Args:
            caller: Name of the API key, or address of the client. Never a key.
            why: Message of the log line.
            now: Time, in seconds.
        """
        with self._lock:
            due, count = self._callers.pop(caller, (now, 0))
            count += 1
            if now >= due and self._has_line(int(now)):
                log.warning(why, extra={"caller": caller, "refusals": count})
                due, count = now + BETWEEN_SECONDS, 0
            self._callers[caller] = due, count
            if len(self._callers) > MOST_CALLERS:
                self._callers.popitem(last=False)

    def _has_line(self, second: int) -> bool:
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= MOST_LINES
