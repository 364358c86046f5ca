"""One command at a time changes the cluster."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tools.cluster.cache import CACHE
from tools.cluster.console import Failure


@contextmanager
def alone(verb: str) -> Iterator[None]:
    """Hold the cluster's lock, which the kernel releases even when the process is killed.

    Raises:
        Failure: Another command holds it; names its process.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "cluster.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another command"
            raise Failure(
                f"{holder} changes this cluster. Wait until it has ended, then run make {verb} again."
            ) from None
        lock.truncate(0)
        lock.write(f"make {verb} (process {os.getpid()})")
        lock.flush()
        yield
