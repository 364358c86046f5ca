"""Models that were trained with a different XGBoost version."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import LoadError
from app.model import booster
from app.model import xgboost as xgboost_model
from app.model.files import Provenance
from app.model.xgboost import BoosterModel
from tests.app.harness import logged


def load(folder: Path, version: str, mode: Any) -> BoosterModel:
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    mlmodel["flavors"]["xgboost"]["xgb_version"] = version
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel))
    return xgboost_model.load(folder, Provenance("m", "", folder.as_uri()), "", mode)


def test_different_version_is_logged_in_one_line(copied: Path) -> None:
    with logged() as lines:
        loaded = load(copied, "1.7.6", "warn")

    here = booster.version()
    assert loaded.document()["mismatches"] == [{"package": "xgboost", "wanted": "1.7.6", "present": here}]
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert warnings == [f"The model was logged with different package versions: xgboost 1.7.6 (installed: {here})."]


def test_different_version_is_rejected_in_mode_fail(copied: Path) -> None:
    with pytest.raises(LoadError) as refusal:
        load(copied, "1.7.6", "fail")

    assert str(refusal.value) == (
        "it was logged with package versions that differ from those installed: "
        f"xgboost 1.7.6 (installed: {booster.version()}); "
        "train with these versions, install the model's versions, or set model.compatibility=warn"
    )


@pytest.mark.parametrize("mode", ["warn", "fail"])
def test_different_patch_version_is_accepted(copied: Path, mode: str) -> None:
    same = ".".join([*booster.version().split(".")[:2], "99"])

    assert load(copied, same, mode).mismatches == ()


def test_mode_off_compares_nothing(copied: Path) -> None:
    assert load(copied, "1.7.6", "off").document()["mismatches"] is None
