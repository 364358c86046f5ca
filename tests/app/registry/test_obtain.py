"""Loading of the model that the settings name."""

import time
from pathlib import Path

from app.model.contract import MODEL_FILE
from app.registry.load import load_model
from tests.app.harness import audited, settings_for


def test_folder_model_file_is_read_once(saved: Path, tmp_path: Path) -> None:
    settings = settings_for(saved.as_uri(), tmp_path, model_name="m")

    with audited("open") as paths:
        model = load_model(settings, time.monotonic() + 60).model

    assert paths.count(str(saved / MODEL_FILE)) == 1
    assert (model.provenance.name, model.provenance.version) == ("m", model.sha256[:12])
