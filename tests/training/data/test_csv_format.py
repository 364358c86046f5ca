"""CSV as pandas, R and spreadsheets write it: what is detected, and what needs an option."""

import bz2
import gzip
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from tests.training.behaviour.test_served import answers, served
from training.__main__ import main
from training.data.csv_format import CsvFormat
from training.data.dataset import DataSpec, load
from training.errors import InputError
from training.reproduction.retrain import retrain
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.train_options import TrainOptions

ROWS = 300


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    size = (draw.normal(2000, 900, ROWS).round(2) + 0.01).round(2)
    name = draw.choice(["Zürich", "Genève", "Bern"], ROWS)
    count = draw.integers(0, 9, ROWS)
    return pd.DataFrame({"city": name, "size": size, "count": count, "price": (size * 3 + count).round(2)})


def european(number: float) -> str:
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def in_text(table: pd.DataFrame, text: Callable[[float], str]) -> pd.DataFrame:
    return table.assign(size=table["size"].map(text), price=table["price"].map(text))


def r_table(table: pd.DataFrame) -> str:
    """Return what write.table(t, sep=",") writes: a header without the name of the row names."""
    lines = table.to_csv(header=False).splitlines()
    return "\n".join([",".join(f'"{name}"' for name in table.columns), *lines, ""])


# How the table is written, and what the log shows.
FORMS: dict[str, tuple[Callable[[pd.DataFrame], bytes], str]] = {
    "plain": (lambda t: t.to_csv(index=False).encode(), "CSV in utf-8, delimiter ',', decimal '.'"),
    "pandas": (lambda t: t.to_csv().encode(), "decimal '.'; its first column has no name and is left out as an index"),
    "index of two levels": (
        lambda t: t.set_index([t.index, t["count"]]).rename_axis([None, None]).to_csv().encode(),
        "; its first 2 columns have no name and are left out as an index",
    ),
    "read and written again": (
        lambda t: pd.read_csv(io.StringIO(t.to_csv())).to_csv(index=False).encode(),
        "CSV in utf-8, delimiter ',', decimal '.'",
    ),
    "write.csv": (lambda t: t.to_csv(index_label="", quoting=2).encode(), "has no name and is left out as an index"),
    "write.table": (lambda t: r_table(t).encode(), "; its first column has no name and is left out as an index"),
    "write.csv2": (
        lambda t: t.to_csv(sep=";", decimal=",").encode(),
        "delimiter ';', decimal ','; its first column has no name and is left out",
    ),
    "spreadsheet": (
        lambda t: in_text(t, european).to_csv(sep=";", index=False).encode("utf-8-sig"),
        "CSV in utf-8, delimiter ';', decimal ',', thousands '.'",
    ),
    "english thousands": (
        lambda t: in_text(t, "{:,.2f}".format).to_csv(index=False).encode(),
        "delimiter ',', decimal '.', thousands ','",
    ),
    "tab in utf-16": (
        lambda t: t.to_csv(sep="\t", index=False).encode("utf-16"), "CSV in utf-16, delimiter tab, decimal '.'"
    ),
    "pipe, gzip": (lambda t: gzip.compress(t.to_csv(sep="|", index=False).encode()), "delimiter '|', decimal '.'"),
    "bzip2": (lambda t: bz2.compress(t.to_csv().encode()), "its first column has no name and is left out"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_file_is_read_as_the_data_frame_it_was_written_from(
    table: pd.DataFrame, tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    write, sentence = FORMS[form]
    (tmp_path / "table.csv").write_bytes(write(table))
    table.to_parquet(tmp_path / "plain.parquet", index=False)
    specs = [
        DataSpec(source=str(tmp_path / name), target="price", csv=CsvFormat())
        for name in ("table.csv", "plain.parquet")
    ]

    with caplog.at_level(logging.INFO):
        found, plain = (load(spec) for spec in specs)

    assert found.sha256 == plain.sha256
    assert sentence in caplog.text
    assert sum("is read as" in each.message for each in caplog.records) == 1
    resolved = found.spec.csv
    assert resolved
    assert "auto" not in resolved.model_dump().values()
    assert load(found.spec).sha256 == found.sha256, "from the manifest"


@pytest.mark.parametrize("form", ["write.csv2", "spreadsheet", "english thousands", "tab in utf-16", "pipe, gzip"])
def test_file_is_scored_and_reproduced_as_it_was_trained(table: pd.DataFrame, tmp_path: Path, form: str) -> None:
    source = tmp_path / "table.csv"
    source.write_bytes(FORMS[form][0](table))
    data, _, model = served(tmp_path, source, "--target=price", "--rounds=20")
    frame = table.drop(columns="price").assign(city=pd.Categorical(table["city"]))
    booster = xgb.Booster(model_file=tmp_path / "work/model.ubj")
    wanted = booster.predict(xgb.DMatrix(frame, enable_categorical=True))

    arguments = [f"--model-uri=file://{tmp_path}/model", f"--data={source}"]
    assert main(["score", *arguments, f"--output={tmp_path}/out"]) == 0
    assert main(["describe", *arguments, f"--output={tmp_path}/contract.json"]) == 0

    np.testing.assert_array_equal(answers(data, model)[:, 0], wanted)
    scored = pq.read_table(next((tmp_path / "out").glob("part-*"))).column("prediction")
    np.testing.assert_array_equal(scored.to_numpy(), wanted)
    profiles = [json.loads((tmp_path / name).read_text())["profile"] for name in ("contract.json",)]
    assert [each["missing"] for each in profiles[0]["features"]] == [0, 0, 0]
    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    assert retrain(recorded, "", 1, "").fitted.ubj == (tmp_path / "work/model.ubj").read_bytes()


@pytest.mark.parametrize(
    ("text", "option", "wanted"),
    [
        ("a,y\n'1,234',x\n".replace("'", '"'), {"thousands": ","}, 1234.0),
        ("a;y\n1,234;x\n", {"decimal": ","}, 1.234),
        ("a;y\n1'234;x\n", {"thousands": "'"}, 1234.0),
    ],
)
def test_number_with_two_readings_needs_the_option(
    tmp_path: Path, text: str, option: dict[str, Any], wanted: float, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "table.csv"
    file.write_text(text + text.splitlines()[1].replace("x", "z") + "\n")
    spec = DataSpec(source=str(file), target="y", csv=CsvFormat())

    with caplog.at_level(logging.WARNING):
        alone = load(spec)
    given = load(spec.model_copy(update={"csv": CsvFormat(**option)}))

    assert alone.columns[0].categories
    assert "numbers as text" in caplog.text
    assert "--csv-decimal or --csv-thousands" in caplog.text
    assert given.features[:, 0].tolist() == [np.float32(wanted)] * 2


def test_latin_1_needs_the_option(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "table.csv", index=False, encoding="latin-1")
    spec = DataSpec(source=str(tmp_path / "table.csv"), target="price", csv=CsvFormat())

    with pytest.raises(InputError, match="Column city is not UTF-8 text; name its encoding with --csv-encoding"):
        load(spec)
    assert load(spec.model_copy(update={"csv": CsvFormat(encoding="latin-1")})).columns[0].categories == (
        "Bern", "Genève", "Zürich",
    )  # fmt: skip


def test_two_delimiters_that_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b;y\n1,2;0\n3,4;1\n")
    spec = DataSpec(source=str(tmp_path / "table.csv"), target="y", csv=CsvFormat())

    with pytest.raises(InputError, match=r"--csv-delimiter .*both ',' and ';' divide each line"):
        load(spec)
    assert load(spec.model_copy(update={"csv": CsvFormat(delimiter=";")})).columns[0].name == "a,b"


@pytest.mark.parametrize(("option", "sentence"), [
    ("--csv-encoding=klingon", "klingon is not an encoding that Python knows"),
    ("--csv-delimiter=x", "--csv-delimiter"),
])  # fmt: skip
def test_unusable_option_is_refused(option: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", option])


def test_number_in_a_different_notation_is_refused_in_training_and_scoring(table: pd.DataFrame, tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_bytes(FORMS["write.csv2"][0](table))
    served(tmp_path, source, "--target=price", "--csv-decimal=,")
    lines = source.read_text().splitlines()
    cells = lines[5].split(";")
    cells[2] = "12.5"
    source.write_text("\n".join([*lines[:5], ";".join(cells), *lines[6:]]))

    with pytest.raises(InputError, match=r"Row 5, column size: '12\.5' is text in a column of numbers"):
        load(DataSpec(source=str(source), target="price", csv=CsvFormat(decimal=",")))
    arguments = [f"--model-uri=file://{tmp_path}/model", f"--data={source}", f"--output={tmp_path}/out"]
    assert main(["score", *arguments, "--on-error=skip", "--csv-decimal=,"]) == 0
    found = pq.read_table(next((tmp_path / "out").glob("part-*")))
    errors = {row: error for row, error in enumerate(found.column("error").to_pylist()) if error}
    assert errors == {4: "size: must be a number, not a string"}


def test_index_of_pandas_is_not_a_feature_but_can_be_named(table: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "table.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "table.parquet").names
    spec = DataSpec(source=str(tmp_path / "table.parquet"), target="price", csv=CsvFormat())

    (tmp_path / "folder").mkdir()
    shuffled.to_parquet(tmp_path / "folder/a.parquet")

    for source in ("table.parquet", "folder"):
        found = load(spec.model_copy(update={"source": str(tmp_path / source)}))
        assert [each.name for each in found.columns] == ["city", "size", "count"]
    timed = load(spec.model_copy(update={"time_column": "__index_level_0__"}))
    assert timed.times
    assert timed.times.values.tolist() == shuffled.index.tolist()
    before = load(spec.model_copy(update={"csv": None}))
    assert before.columns[-1].name == "__index_level_0__", "as a manifest without the format recorded it"


def test_columns_are_dropped_by_patterns(tmp_path: Path) -> None:
    table = pa.table({"tmp_a": [1, 2], "tmp_b": [1, 2], "c[1]": [1, 2], "c": [1, 2], "y": ["a", "b"]})
    pq.write_table(table, tmp_path / "t.parquet")

    def left(*drop: str) -> list[str]:
        found = load(DataSpec(source=str(tmp_path / "t.parquet"), target="y", drop=drop))
        return [each.name for each in found.columns]

    assert left("tmp_*") == ["c[1]", "c"]
    assert left("c[1]", "tmp_?") == ["c"], "an exact name comes first"
    for pattern, sentence in {"none_*": "no column matches none_\\*", "cc": "column cc does not exist"}.items():
        with pytest.raises(InputError, match=rf"--drop \(TRAINING_DROP\): {sentence}"):
            left(pattern)
