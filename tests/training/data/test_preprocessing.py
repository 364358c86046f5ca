"""Preprocessing of usable tables, and errors that name the place in unusable ones."""

import gzip
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.data.dataset import Data, DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError, TrainingError

CHURN = "age,plan,member,visits,churn\n" + "".join(
    f"{20 + i}.5,{('basic', 'plus', '')[i % 3]},{('true', 'false')[i % 2]},{i % 4},{('yes', 'no')[i % 2]}\n"
    for i in range(24)
)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Data]:
    """Return a function that loads the text of a CSV file."""

    def read(text: str | bytes, **spec: object) -> Data:
        file = tmp_path / "table.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(DataSpec.model_validate({"source": str(file), "target": "churn", **spec}))

    return read


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_columns_have_the_types_of_xgboost(table: Callable[..., Data]) -> None:
    data = table(CHURN, categorical=["visits"])

    assert (data.task, data.classes) == ("binary", ("no", "yes"))
    assert [(each.name, each.type, each.categories) for each in data.columns] == [
        ("age", "double", ()),
        ("plan", "string", ("basic", "plus")),
        ("member", "boolean", ()),
        ("visits", "long", (0, 1, 2, 3)),
    ]
    assert np.isnan(data.features[2, 1])
    assert data.features[:2].tolist() == [[20.5, 0, 1, 0], [21.5, 1, 0, 1]]
    assert data.target[:2].tolist() == [1, 0]


def test_same_table_from_any_source_gives_the_same_data(table: Callable[..., Data], tmp_path: Path, web: str) -> None:
    plain = table(CHURN)
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(CHURN.encode()))
    pd.read_csv(tmp_path / "table.csv").to_parquet(tmp_path / "table.parquet")

    sources = [f"file://{tmp_path}/table.csv", str(tmp_path / "table.csv.gz"), str(tmp_path / "table.parquet")]
    sources += [f"{web}/table.csv", f"{web}/table.parquet?signature=secret"]

    for source in sources:
        assert load(DataSpec(source=source, target="churn")).sha256 == plain.sha256, source


def test_category_numbers_do_not_depend_on_the_row_order(table: Callable[..., Data]) -> None:
    head, *rows = CHURN.splitlines(keepends=True)

    assert table(head + "".join(reversed(rows))).columns == table(CHURN).columns


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ("1\n0\n1\n0\n", "binary", ("0", "1")),
        ("1.0\n2.0\n1.0\n3.0\n", "multiclass", ("1", "2", "3")),
        ("true\nfalse\ntrue\nfalse\n", "binary", ("false", "true")),
        ("b\na\nc\na\n", "multiclass", ("a", "b", "c")),
        ("0.5\n1\n2\n3\n", "regression", ()),
        ("".join(f"{i}\n" for i in range(11)), "regression", ()),
    ],
)
def test_task_is_inferred_from_the_target(
    table: Callable[..., Data], target: str, task: str, classes: tuple[str, ...]
) -> None:
    text = "x,churn\n" + "".join(f"{i},{value}\n" for i, value in enumerate(target.split()))

    data = table(text)

    assert (data.task, data.classes) == (task, classes)


def test_positive_class_is_the_second(table: Callable[..., Data]) -> None:
    assert table(CHURN, positive="no").classes == ("yes", "no")


def test_groups_stay_together(table: Callable[..., Data]) -> None:
    text = "query,x,churn\n" + "".join(f"q{i % 7},{i},{i % 3}\n" for i in range(70))

    data = table(text, task="ranking", group="query")
    parts = split(data, SplitSpec())

    assert data.groups is not None
    assert (np.diff(data.groups) >= 0).all()
    assert list(data.frame.columns) == ["x"]
    assert not set(data.groups[parts.rest]) & set(data.groups[parts.holdout])


@pytest.mark.parametrize(
    ("text", "spec", "problem"),
    [
        ("", {}, "is empty"),
        ("x,churn\n", {}, "has columns but no rows"),
        ("x,x,churn\n1,2,3\n", {}, "Columns 1 and 2 of"),
        ("x,,churn\n1,2,3\n", {}, "Column 2 of"),
        ("x, churn\n1,2\n", {}, "has a name with leading or trailing blanks"),
        ("x,churn\n1,2\n1,2,3\n", {}, "is not a CSV or Parquet table"),
        (b"PAR1 and no more", {}, "is not a Parquet file"),
        ("x,y\n1,2\n", {}, "--target (TRAINING_TARGET): column churn does not exist; the columns are x, y."),
        ("x,y\n1,2\n", {"target": ""}, "--target (TRAINING_TARGET): name the column to predict, one of x, y."),
        (CHURN, {"drop": ["colour"]}, "--drop (TRAINING_DROP): column colour does not exist"),
        (CHURN, {"task": "ranking"}, "--group (TRAINING_GROUP)"),
        ("x,churn\n1,a\n2,\n3,b\n", {}, "Row 2 has no value in the target column churn (1 in total)"),
        ("x,churn\n1,\n2,\n", {"skip_unlabelled": True}, "No row has a value in the target column churn"),
        ("x,churn\n1,a\n2,a\n", {}, "has only one class, a;"),
        ("x,churn\n1,a\n2,b\n3,c\n", {"task": "binary"}, "has 3 classes, which is not binary: a, b, c"),
        ("x,churn\n1,a\n2,b\n", {"task": "regression"}, "Row 1, column churn: 'a' is not a number"),
        ("x,y,churn\n1,,a\n2,,b\n", {}, "Column y has no value in any row"),
        ("x,churn\n1,a\n2,b\nx,a\n4,b\n", {}, "Row 3, column x: 'x' is text in a column of numbers"),
        ("x,churn\n1,a\n1e39,b\n", {}, "Row 2, column x: the value is infinite"),
        (
            "x,churn\n2026-01-01,a\n2026-01-02,b\n",
            {},
            "Column x contains dates or times (date32[day]); make its parts features",
        ),
        ("x,churn\n1,a\n2.5,b\n", {"categorical": ["x"]}, "Row 2, column x: categories must be whole numbers"),
        (
            "x,churn\n1,a\n1e19,b\n",
            {"categorical": ["x"]},
            "Row 2, column x: categories must be whole numbers of at most 64 bits.",
        ),
        (
            "x,churn\n,a\n1,b\ninf,a\n",
            {"categorical": ["x"]},
            "Row 3, column x: categories must be whole numbers of at most 64 bits.",
        ),
        ("churn\na\nb\n", {}, "has no feature"),
        (
            "x,churn\n1,a\n2,b\n",
            {"positive": "c"},
            "--positive (TRAINING_POSITIVE): c is not one of two classes. The classes are a, b",
        ),
        ("q,x,churn\na,1,1\na,2,-1\n", {"group": "q", "task": "ranking"}, "Row 2, column churn: a grade"),
        ("q,x,churn\na,1,1\n,2,1\n", {"group": "q", "task": "ranking"}, "Row 2 has no value in the group column q"),
    ],
)
def test_unusable_table_is_refused_with_the_place(
    table: Callable[..., Data], text: str | bytes, spec: dict[str, object], problem: str
) -> None:
    with pytest.raises(InputError) as refused:
        table(text, **spec)

    assert problem in str(refused.value)


def test_text_among_numbers_may_be_a_category(table: Callable[..., Data]) -> None:
    data = table("x,churn\n1,a\n2,b\nx,a\n4,b\n", categorical=["x"])

    assert data.columns[0].categories == ("1", "2", "4", "x")


@pytest.mark.parametrize(
    ("source", "code", "problem"),
    [
        ("no/such/file.csv", 2, "is not a file. The built-in data sets are breast_cancer"),
        ("ftp://host/file.csv", 2, "ftp:// is not supported"),
        ("http://me:secret@host/x.csv", 2, "credentials do not belong in the URI of host"),
        ("http://127.0.0.1:9/x.csv", 1, "cannot be read: Connection refused"),
        ("{web}/none.csv?signature=secret", 2, "/none.csv cannot be read: the server answers 404"),
    ],
)
def test_missing_source_is_refused(web: str, source: str, code: int, problem: str) -> None:
    with pytest.raises(TrainingError) as refused:
        load(DataSpec(source=source.format(web=web), target="y"))

    assert problem in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.exit_code == code


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x,churn\n1,a\n2,b\n3,b\n4,b\n5,b\n", "There are 1 rows of the class a; a split with 1 fold(s) needs 3"),
        ("x,churn\n1,0.5\n2,1\n", "There are 2 rows; a split with 1 fold(s) needs 3"),
    ],
)
def test_too_few_rows_are_refused(table: Callable[..., Data], text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        split(table(text), SplitSpec())


def test_bucket_gives_the_same_data_as_a_file(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "churn.csv").write_text(CHURN)
    (bucket / "lake").mkdir()
    (bucket / "lake" / "churn.csv").write_text(CHURN)

    there = load(DataSpec(source="s3://data/lake/churn.csv", target="churn"))

    here = load(DataSpec(source=str(tmp_path / "churn.csv"), target="churn"))
    assert (there.sha256, there.raw_sha256, there.name) == (here.sha256, here.raw_sha256, here.name)
    for source in ("s3://data/lake/none.csv", "s3://nobody/churn.csv"):
        with pytest.raises(InputError, match=f"{source} cannot be read: "):
            load(DataSpec(source=source, target="churn"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(InputError, match=r"s3://data/lake/churn\.csv cannot be read: .*ACCESS_DENIED"):
        load(DataSpec(source="s3://data/lake/churn.csv", target="churn"))
