"""The service as it runs in the image, with a probe that writes each pause of its event loop to the file LOOP_PAUSES.

Each line is the start of a pause by time.monotonic(), which all processes share, and its duration, in seconds.
"""

import asyncio
import os
import sys
import time
from typing import Any

import app.main
from app.http.server import Server, make_server
from app.service import Service

BEAT_SECONDS = 0.001
LEAST_SECONDS = 0.005  # shorter pauses are not written


def probed(application: Any, service: Service) -> Server:
    """Return the server, whose event loop notes its pauses from its start."""
    server = make_server(application, service)
    startup = server.startup

    async def start(sockets: list[Any] | None = None) -> None:
        await startup(sockets)
        output = os.open(os.environ["LOOP_PAUSES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        loop = asyncio.get_running_loop()

        def beat(last: float) -> None:
            now = time.monotonic()
            if (pause := now - last - BEAT_SECONDS) > LEAST_SECONDS:
                os.write(output, f"{last} {pause}\n".encode())
            loop.call_later(BEAT_SECONDS, beat, now)

        beat(time.monotonic())

    server.startup = start  # type: ignore[method-assign]
    return server


if __name__ == "__main__":
    vars(app.main)["make_server"] = probed
    sys.exit(app.main.main())
