"""What is said about a model that was trained with another version of XGBoost."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app import booster, model
from app.errors import LoadError
from app.model import BoosterModel, folder_provenance
from app.source import ModelFolder
from tests.app.harness import logged


def load(folder: Path, version: str, mode: Any) -> BoosterModel:
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    mlmodel["flavors"]["xgboost"]["xgb_version"] = version
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel))
    return model.load(folder, folder_provenance(ModelFolder(folder), folder.as_uri(), "m"), "", mode)


def test_another_version_is_one_line(copied: Path) -> None:
    with logged() as lines:
        loaded = load(copied, "1.7.6", "warn")

    here = booster.version()
    assert loaded.document()["mismatches"] == [{"package": "xgboost", "wanted": "1.7.6", "present": here}]
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert warnings == [f"The model was logged with other packages: xgboost 1.7.6 (here: {here})."]


def test_another_version_can_be_refused(copied: Path) -> None:
    with pytest.raises(LoadError) as refusal:
        load(copied, "1.7.6", "fail")

    assert str(refusal.value) == (
        f"it was logged with other packages than this image has: xgboost 1.7.6 (here: {booster.version()}); train with "
        "the image's versions, build an image with the model's, or set model.compatibility=warn"
    )


@pytest.mark.parametrize("mode", ["warn", "fail"])
def test_another_patch_is_the_same(copied: Path, mode: str) -> None:
    same = ".".join([*booster.version().split(".")[:2], "99"])

    assert load(copied, same, mode).mismatches == ()


def test_nobody_looks_when_it_is_off(copied: Path) -> None:
    assert load(copied, "1.7.6", "off").document()["mismatches"] is None
