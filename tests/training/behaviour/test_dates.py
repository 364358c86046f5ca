"""Parts of dates are the same features in training, the service, scoring, explanations and the gate."""

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

from app.endpoints import schemas
from app.errors import InvalidInputError
from app.model.dates import PARTS
from tests.app.harness import serving, settings_for
from tests.training.behaviour.test_served import served
from tests.training.conftest import Result, Server
from training.__main__ import main
from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError
from training.gate import holdout
from training.reproduction.retrain import retrain
from training.tracking.manifest import MANIFEST_FILE, Manifest
from training.tracking.mlflow_errors import mlflow_at
from training.train_options import TrainOptions

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
ROWS = 500
COLUMNS = ["signup", "plan", "seen", "age"]
OPTIONS = ("--target=paid", "--dates=signup,seen")


def table() -> pd.DataFrame:
    """Return rows with a date and a time: sometimes missing, before 1970, or with an offset or fractions."""
    draw = np.random.default_rng(0)
    days = draw.integers(-4000, 20_000, ROWS)
    signup = [str(np.datetime64(int(day), "D")) for day in days]
    seconds = days * 86_400 + draw.integers(0, 86_400, ROWS)
    endings = ("", ".999999", "+02:00", "Z")
    seen = [f"{np.datetime64(int(each), 's')}{endings[i % 4]}" for i, each in enumerate(seconds)]
    frame = pd.DataFrame({"signup": signup, "plan": draw.choice(["a", "b"], ROWS), "seen": seen})
    frame.loc[::9, "seen"] = None
    frame["age"] = draw.integers(18, 90, ROWS)
    known = pd.to_datetime(frame["signup"])
    frame["paid"] = known.dt.month * 2.0 + (known.dt.day_of_week > 4) * 5 + frame["age"] / 50
    return frame


def by_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the features as plain pandas computes them."""
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if name not in ("signup", "seen"):
            columns[name] = frame[name].astype("category") if name == "plan" else frame[name].astype(np.float32)
            continue
        moment = pd.to_datetime(frame[name], format="ISO8601", utc=True).dt.floor("s")
        parts = moment.dt.year, moment.dt.month, moment.dt.day, moment.dt.day_of_week, moment.dt.hour
        days = (moment - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(days=1)
        for part, values in zip(PARTS, (*parts, days), strict=True):
            columns[f"{name}.{part}"] = pd.Series(values).astype(np.float32)
    return pd.DataFrame(columns)


def as_csv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def as_timestamps(frame: pd.DataFrame, path: Path) -> Path:
    """Write the dates as Arrow's own types."""
    moments = pd.to_datetime(frame["seen"], format="ISO8601", utc=True).dt.tz_convert(None).to_numpy()
    columns = {name: pa.array(frame[name].tolist(), from_pandas=True) for name in frame.columns}
    columns["signup"] = pa.array(np.array(frame["signup"].tolist(), "datetime64[D]"))
    columns["seen"] = pa.array(moments, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(("write", "file"), [(as_csv, "table.csv"), (as_timestamps, "table.parquet")])
def test_parts_of_dates_are_the_same_in_training_service_scoring_and_explanations(
    tmp_path: Path, write: Callable[[pd.DataFrame, Path], Path], file: str
) -> None:
    frame = table()
    path = write(frame, tmp_path / file)

    data, fitted, model = served(tmp_path, path, *OPTIONS)

    features = by_pandas(frame)
    assert list(data.frame.columns) == list(features.columns)
    own = xgb.DMatrix(features, frame["paid"], enable_categorical=True)
    rest = split(data, SplitSpec()).rest
    train = xgb.DMatrix(features.iloc[rest], frame["paid"].iloc[rest], enable_categorical=True)
    expected = xgb.train(fitted.params, train, fitted.rounds).predict(own)
    content = (tmp_path / "work/model.ubj").read_bytes()
    np.testing.assert_array_equal(xgb.Booster(model_file=bytearray(content)).predict(own), expected)
    rows = frame[COLUMNS].astype(object).where(frame[COLUMNS].notna(), None).to_numpy().tolist()
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    found = [model.signature.from_split(COLUMNS, rows), model.signature.from_records(records)]
    for each in found:
        np.testing.assert_array_equal(model.booster.predict(each)[:, 0], expected)
    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path / "cache")) as client:
        bodies: list[tuple[str, Any]] = [
            ("/predict", {"columns": COLUMNS, "data": rows}),
            ("/predict", {"instances": records}),
            ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": rows}}),
        ]
        for place, body in bodies:
            answer = client.post(place, json=body)
            np.testing.assert_array_equal(np.array(answer.json()["predictions"], dtype=np.float32), expected)
        sink = pa.BufferOutputStream()
        arrow = pa.Table.from_pandas(frame[COLUMNS], preserve_index=False)
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow)
        kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
        answer = client.post("/predict", content=sink.getvalue().to_pybytes(), headers=kind)
        np.testing.assert_array_equal(np.array(answer.json()["predictions"], dtype=np.float32), expected)
        explained = client.post("/explain", json={"columns": COLUMNS, "data": rows[:5]}).json()["explanations"]
        contributions = xgb.Booster(model_file=bytearray(content)).predict(
            own.slice(list(range(5))), pred_contribs=True
        )
        shown = [list(each["outputs"][0]["contributions"].values()) for each in explained]
        np.testing.assert_array_equal(np.array(shown, dtype=np.float32), contributions[:, :-1])
        assert list(explained[0]["outputs"][0]["contributions"]) == list(features.columns)
        cells = schemas.records(model, 1)["properties"]["instances"]["items"]["properties"]
        assert cells["signup"]["anyOf"] == [{"format": "date"}, {"format": "date-time"}]
        assert cells["signup"]["type"] == ["string", "null"]
        counted = client.get("/metrics").text
        assert 'variable="signup.month"' in counted
    assert main(["score", f"--model-uri=file://{tmp_path}/model", f"--data={path}", f"--output={tmp_path}/out"]) == 0
    scored = pq.read_table(next((tmp_path / "out").glob("part-*"))).column("prediction").to_numpy()
    np.testing.assert_array_equal(scored, expected)
    recorded = Manifest.model_validate_json((tmp_path / "work" / MANIFEST_FILE).read_bytes())
    assert retrain(recorded, "", 2, "").fitted.ubj == content


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("31.01.2026", "must be an ISO 8601 date and time"),
        ("9999-12-31", "from 1678 to 2261"),
        (20260131, "must be a string, not a number"),
        (True, "must be a string, not a boolean"),
        (["2026-01-31"], "must be a string, not a list"),
    ],
)
def test_value_that_is_not_a_date_is_refused(tmp_path: Path, value: Any, problem: str) -> None:
    frame = table()
    _, _, model = served(tmp_path, as_csv(frame, tmp_path / "table.csv"), *OPTIONS)

    with pytest.raises(InvalidInputError) as caught:
        model.signature.from_records([{"signup": value, "plan": "a", "seen": None, "age": 3}])

    assert problem in caught.value.errors[0].problem
    assert caught.value.errors[0].column == "signup"


def test_cell_that_is_not_a_date_is_named_by_scoring(tmp_path: Path) -> None:
    frame = table()
    served(tmp_path, as_csv(frame, tmp_path / "table.csv"), *OPTIONS)
    frame.loc[7, "signup"] = "31.01.2026"
    bad = as_csv(frame, tmp_path / "bad.csv")

    argv = ["score", f"--model-uri=file://{tmp_path}/model", f"--data={bad}", f"--output={tmp_path}/out"]

    assert main([*argv, "--on-error=skip"]) == 0
    scored = pq.read_table(next((tmp_path / "out").glob("part-*"))).to_pandas()
    assert scored["error"].notna().sum() == 1
    assert "signup" in scored["error"][7]


@pytest.mark.parametrize(
    ("cell", "options", "problem"),
    [
        ("soon", {}, r"row 8, column signup: 'soon' is not a date or time in ISO 8601"),
        ("9999-12-31", {}, r"row 8, column signup: '9999-12-31' is not a date.* add it to --null-words"),
        (None, {"dates": ("paid",)}, r"column paid is not a feature"),
        (None, {"dates": ("signup",), "drop": ("signup",)}, r"column signup is not a feature"),
        (None, {"dates": ("joined",)}, r"column joined does not exist"),
        (None, {"dates": ("signup", "seen", "age")}, r"row 1, column age: '\d+' is not a date"),
    ],
)
def test_column_without_dates_is_refused(
    tmp_path: Path, cell: str | None, options: dict[str, Any], problem: str
) -> None:
    frame = table()
    if cell:
        frame.loc[7, "signup"] = cell
    spec = {"source": str(as_csv(frame, tmp_path / "t.csv")), "target": "paid", "dates": ("signup", "seen"), **options}

    with pytest.raises(InputError, match=problem):
        load(DataSpec.model_validate(spec))


def test_feature_with_the_name_of_a_part_is_refused(tmp_path: Path) -> None:
    frame = table().rename(columns={"age": "signup.month"})

    with pytest.raises(InputError, match=r"signup.month has the name of a part of signup; rename it"):
        load(DataSpec(source=str(as_csv(frame, tmp_path / "t.csv")), target="paid", dates=("signup", "seen")))


def test_dates_as_text_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.parquet"
    table().to_parquet(path, index=False)

    with caplog.at_level(logging.WARNING):
        load(DataSpec(source=str(path), target="paid"))

    assert "column signup contains dates as text" in caplog.text
    assert "--dates=signup" in caplog.text


def test_part_that_is_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"--date-parts .*a part is named twice"):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--date-parts=day,day"])


def test_gate_shows_each_model_its_own_parts_of_dates(
    server: Server, command: Callable[..., Result], trained: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = as_csv(table(), tmp_path / "table.csv")
    first = trained(server, "dates", f"--data={path}", *OPTIONS, "--date-parts=year,hour", "--rounds=5")
    second = trained(server, "dates", f"--data={path}", *OPTIONS, "--date-parts=month,weekday,days", "--rounds=50")

    at = f"--mlflow-tracking-uri={server.uri}"
    assert command("reproduce", second["uri"], at).code == 0
    with mlflow_at(server.uri):
        held = holdout.reload(server.client, second["run_id"])
        models = [_read(server, each["version"], tmp_path) for each in (first, second)]
    predicted = [each.predict(held.frame) for each in models]
    features = by_pandas(table())
    for model, found in zip(models, predicted, strict=True):
        names = model.booster.feature_names
        rows = features.iloc[held.frame.index][names]
        np.testing.assert_array_equal(found, model.booster.predict(xgb.DMatrix(rows, enable_categorical=True)))
    example = json.loads((server.model_folder("dates", second["version"]) / "input_example.json").read_text())
    assert example["columns"] == COLUMNS


def _read(server: Server, version: str, tmp_path: Path) -> Any:
    """Return a registered version as the gate reads it."""
    from training.tracking import registered

    folder = tmp_path / version
    folder.mkdir()
    return registered.read(server.client, "dates", version, folder)
