"""The examples of docs/how-to/inference-log.md, on a log of a real service."""

import json
import os
import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import yaml

from tests.app.kinds import KINDS
from tests.app.monitoring.test_inference_log import logging_service
from tests.charts.harness import pod_template, rendered
from tools.cluster.cache import ROOT
from training.__main__ import main

PAGE = (ROOT / "docs/how-to/inference-log.md").read_text()


def example(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a log, in which 20 predictions have a label that agrees, and 20 one that does not."""
    place = tmp_path_factory.mktemp("log")
    (place / "keys").mkdir()
    (place / "keys" / "key").write_text("a-key-0123456789")
    KINDS["binary"].save(place / "model")
    with logging_service((place / "model").as_uri(), place, feedback_keys_dir=place / "keys") as client:
        answer = client.post("/predict", json=KINDS["binary"].body()).json()
        found = [
            {"token": token, "label": value["label"] if number < 20 else {"no": "yes", "yes": "no"}[value["label"]]}
            for number, (token, value) in enumerate(zip(answer["tokens"], answer["predictions"], strict=True))
        ]
        assert client.post("/feedback", json={"labels": found[:40]}).json()["accepted"] == 40
    assert main(["ship", f"--segments={place}/segments", f"--log-uri={place}/log", "--pod=a", "--once"]) == 0
    return place / "log"


def test_duckdb_joins_labels(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)

    found = duckdb.sql(example("sql"))

    assert found
    ((_, labelled, accuracy),) = found.fetchall()

    assert (labelled, accuracy) == (40, 0.5)


def test_pandas_joins_labels(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    names: dict[str, pd.Series] = {}

    exec(example("python"), names)  # noqa: S102 - our own page

    assert names["accuracy"].tolist() == [0.5]


def test_schema_lists_all_columns(log: Path) -> None:
    for kind in ("predictions", "labels"):
        columns = set(pd.read_parquet(log / kind).columns) - {"day"}
        listed = set(re.findall(r"`([a-z0-9_]+)(?:<[a-z]+>)?`", PAGE[PAGE.index(f"`{kind}/day=") :]))
        plain = {re.sub(r"^(input_|probability_).*", r"\1", name) for name in columns}
        assert plain <= listed


def test_values_render() -> None:
    objects = rendered(yaml.safe_load(example("yaml")))

    (shipper,) = pod_template(objects)["spec"]["initContainers"]
    assert {"name": "TRAINING_LOG_URI", "value": "s3://models/log/churn"} in shipper["env"]


@pytest.mark.parametrize("command", ["train", "describe", "erase"])
def test_options_exist(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", "200")
    (line,) = re.findall(rf"python -m training {command} (.*)", PAGE)

    with pytest.raises(SystemExit):
        main([command, "--help"])

    known = capsys.readouterr().out
    assert all(option in known for option in re.findall(r"--[a-z-]+", line))


def test_erased_values_are_json() -> None:
    (values,) = re.findall(r"--values '(.*?)'", PAGE)

    assert len(json.loads(values)) == 2
