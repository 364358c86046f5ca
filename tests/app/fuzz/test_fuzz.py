"""Tests that the parsers survive the inputs that a fuzzer finds, from valid ones on."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.http import codings
from app.model.arrow import writer
from tests.app.fuzz.targets import TARGETS
from tests.app.harness import ROOT

SHORT, LONG = "-runs=3000", "-max_total_time=300"


def corpus(target: str, folder: Path) -> Path:
    """Write valid inputs of a target, which the fuzzer changes, and return their folder."""
    folder.mkdir()
    if target == "model_file":
        with warnings.catch_warnings(action="ignore"):
            matrix = xgb.DMatrix(np.random.default_rng(0).random((20, 2)), label=np.arange(20) % 2)
            trained = xgb.train({"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, matrix, 2)
        inputs = [bytes(trained.save_raw("ubj"))]
    elif target == "body":
        split = {"columns": ["a", "b"], "data": [[0.5, 2], [1e3, -4]]}
        records = {"instances": [{"a": 0.5, "b": None, "c": "x"}]}
        inputs = [json.dumps(form).encode() for form in (split, records)]
    elif target == "arrow":
        columns: dict[str, Any] = {"a": np.array([0.5, 2.0]), "b": [1, None], "c": ["x", None]}
        inputs = [writer.write(columns, {"key": "value"})]
    elif target == "compressed":
        inputs = [bytes([place]) + codings.encoded(bytes(99), coding) for place, coding in enumerate(codings.CODINGS)]
    else:
        described = {"name": "a", "datatype": "FP64", "shape": [2]}
        plain = [{**described, "data": [1, 2.5]}]
        binary = [{**described, "parameters": {"binary_data_size": 16}}]
        inputs = [json.dumps(plain).encode(), json.dumps(binary).encode() + b"\0" + bytes(16)]
    for number, each in enumerate(inputs):
        TARGETS[target](each)
        (folder / str(number)).write_bytes(each)
    return folder


def fuzz(target: str, tmp_path: Path, amount: str, seconds: int) -> str:
    """Fuzz a target and return what the fuzzer reported."""
    options = [amount, "-seed=1", "-timeout=20", "-rss_limit_mb=3000", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-m", "tests.app.fuzz", target, str(corpus(target, tmp_path / "corpus")), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_parser_survives_a_short_run(target: str, tmp_path: Path) -> None:
    said = fuzz(target, tmp_path, SHORT, 240)

    assert "cov: " in said  # instrumented; otherwise nothing guides the fuzzer
    assert "Done 3000 runs" in said


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
def test_parser_survives_five_minutes(target: str, tmp_path: Path) -> None:
    assert "Done " in fuzz(target, tmp_path, LONG, 900)
