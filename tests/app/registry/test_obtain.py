"""Loading of the model that the settings name."""

import time
import warnings
from pathlib import Path

import pytest

from app.model.contract import MODEL_FILE
from app.registry.obtain import obtain
from tests.app.harness import audited, settings_for


@pytest.mark.parametrize(
    "flavor", ["xgboost", "pyfunc"]
)  # in pyfunc, XGBoost's library opens the file, which Python does not see
def test_folder_model_file_is_read_once(saved: Path, tmp_path: Path, flavor: str) -> None:
    settings = settings_for(saved.as_uri(), tmp_path, model_flavor=flavor, model_name="m")

    with audited("open") as paths, warnings.catch_warnings(action="ignore"):
        model = obtain(settings, time.monotonic() + 60).model

    assert paths.count(str(saved / MODEL_FILE)) == 1
    assert (model.provenance.name, model.provenance.version) == ("m", model.sha256[:12])
