"""The first step of each program of the image: read the settings and configure the log."""

import logging
import os
from pathlib import Path

from pydantic import ValidationError

from app import logs
from app.loading import leave_message
from app.settings import Settings, describe

log = logging.getLogger(__name__)


def read_settings() -> Settings | None:
    """Return the settings, or None after reporting that they are invalid, also as the termination message."""
    logs.configure("info")
    try:
        settings = Settings()
    except ValidationError as error:
        sentence = describe(error)
        log.error(sentence)
        leave_message(Path(os.environ.get("MODEL_SERVICE_TERMINATION_MESSAGE_PATH", "/dev/termination-log")), sentence)
        return None
    logs.configure(settings.log_level)
    return settings
