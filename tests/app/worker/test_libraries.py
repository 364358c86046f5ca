"""Models of other libraries, served in their own Python and packages."""

import json
from pathlib import Path

import pytest

from tests.app.worker.library_models import NAMES, models
from tests.app.workers import pyfunc_settings, serving_model


@pytest.fixture(scope="module")
def folder() -> Path:
    return models()


@pytest.mark.parametrize("name", NAMES)
def test_served_model_answers_as_in_its_own_environment(name: str, folder: Path, tmp_path: Path) -> None:
    known = json.loads((folder / "answers.json").read_text())
    settings = pyfunc_settings((folder / name).as_uri(), tmp_path, model_name=name)

    with serving_model(settings, folder / "environment" / "bin" / "python") as client:
        answer = client.post("/predict", json={"columns": ["a", "b", "c"], "data": known["rows"]})
        alone = client.post("/predict", json={"instances": [dict(zip("abc", known["rows"][7], strict=True))]})
        model = client.get("/model").json()

    predictions = [each["label"] if isinstance(each, dict) else each for each in answer.json()["predictions"]]
    if name == "catboost":
        assert predictions == known["answers"][name]  # labels
    else:  # the last bit of a dot product depends on the layout of the rows in memory
        assert predictions == pytest.approx(known["answers"][name], rel=1e-12)
    assert alone.json()["predictions"] == answer.json()["predictions"][7:8]
    assert model["mismatches"] == []
