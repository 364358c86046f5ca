"""A folder of Parquet files is one table: the same rows give the same digest as one file, other columns are named."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from training import shares
from training.data import DataSpec, SplitSpec, load
from training.errors import InputError
from training.split import split


def frame(rows: int) -> pd.DataFrame:
    """A table with a number, a category, gaps and two classes."""
    drawn = np.random.default_rng(0)
    made = pd.DataFrame({"size": drawn.random(rows), "colour": drawn.choice(["red", "green", "blue"], rows)})
    made.loc[drawn.random(rows) < 0.2, "size"] = np.nan
    return made.assign(left=drawn.choice(["yes", "no"], rows))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder of three files with two row groups each, one of them in a folder below, beside a writer's own files."""
    folder, whole = tmp_path / "lake", frame(300)
    (folder / "year=2026").mkdir(parents=True)
    whole[:100].to_parquet(folder / "a.parquet", row_group_size=50)
    whole[100:200].to_parquet(folder / "b.PARQUET", row_group_size=50)
    whole[200:].to_parquet(folder / "year=2026" / "a.parquet", row_group_size=50)
    (folder / "_SUCCESS").touch()
    (folder / ".b.parquet.part").write_text("half of a file")
    whole.to_parquet(tmp_path / "lake.parquet", row_group_size=50)
    return folder


def spec(source: object, **more: Any) -> DataSpec:
    return DataSpec(**({"source": str(source), "target": "left"} | more))


def test_folder_gives_the_same_data_as_one_file_and_the_digest_of_its_list(lake: Path) -> None:
    alone, data = load(spec(lake.with_suffix(".parquet"))), load(spec(f"{lake}/"))

    assert (data.name, data.rows, data.sha256) == ("lake", 300, alone.sha256)
    listing = "sha256sum a.parquet b.PARQUET year=2026/a.parquet | sha256sum"
    said = subprocess.run(["bash", "-c", listing], cwd=lake, capture_output=True, text=True, check=True).stdout
    assert data.raw_sha256 == said.split()[0]
    assert load(spec(f"file://{lake}/")).raw_sha256 == data.raw_sha256
    (lake / "year=2026" / "a.parquet").rename(lake / "year=2026" / "b.parquet")
    renamed = load(spec(lake))
    assert renamed.raw_sha256 != data.raw_sha256
    assert renamed.sha256 == data.sha256, "what is learned from is the same"


def test_folder_of_a_bucket_gives_the_same_data(bucket: Path, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(lake, bucket / "lake")

    there, here = load(spec("s3://data/lake/")), load(spec(lake))

    assert (there.name, there.sha256, there.raw_sha256) == (here.name, here.sha256, here.raw_sha256)
    assert shares.whole(spec("s3://data/lake")).target.tolist() == here.target.tolist()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(InputError, match=r"s3://data/lake cannot be read: .*ACCESS_DENIED"):
        load(spec("s3://data/lake"))


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_hold_out_the_same_rows_of_a_folder_as_of_a_file(workers: int, lake: Path) -> None:
    found, target, digest = shares.held_out(spec(lake), SplitSpec(), workers)

    of_file = shares.held_out(spec(lake.with_suffix(".parquet")), SplitSpec(), workers)
    pd.testing.assert_frame_equal(found, of_file[0])
    assert (target.tolist(), digest) == (of_file[1].tolist(), of_file[2])
    alone = load(spec(lake))
    rows = split(alone, SplitSpec()).holdout
    pd.testing.assert_frame_equal(found.reset_index(drop=True), alone.frame.iloc[rows].reset_index(drop=True))


def test_files_may_store_the_same_values_in_their_own_ways(tmp_path: Path) -> None:
    whole = frame(90)
    parts = [whole[:30].assign(colour=None), whole[30:60].astype({"colour": "category"}), whole[60:]]
    tables = [pa.Table.from_pandas(part, preserve_index=False) for part in parts]
    tables[2] = tables[2].set_column(1, "colour", tables[2].column("colour").cast(pa.large_string()))
    tables.append(tables[2].slice(0, 0))
    for number, table in enumerate(tables):
        parquet.write_table(
            table.select(["left", "size", "colour"] if number == 2 else table.column_names),
            tmp_path / f"{number}.parquet",
        )
    whole.loc[:29, "colour"] = None
    whole.to_parquet(tmp_path.with_suffix(".parquet"))

    assert load(spec(tmp_path)).sha256 == load(spec(tmp_path.with_suffix(".parquet"))).sha256
    assert len(shares.whole(spec(tmp_path)).target) == 90


def emptied(lake: Path) -> None:
    shutil.rmtree(lake / "year=2026")
    for file in lake.glob("[ab].*"):
        file.unlink()


def rewritten(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Return a function that writes another second file."""
    return lambda lake: change(frame(300)[100:200]).to_parquet(lake / "b.PARQUET")


@pytest.mark.parametrize("reader", [load, shares.whole])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (emptied, "lake is a folder without a .parquet file."),
        (lambda lake: (lake / "c.csv").write_text("size\n1\n"), "is a folder with CSV ({lake}/c.csv): give one CSV"),
        (lambda lake: (lake / "b.PARQUET").write_text("size,left"), "{lake}/b.PARQUET is no Parquet, which a folder's"),
        (lambda lake: (lake / "b.PARQUET").write_bytes(b""), "{lake}/b.PARQUET is no Parquet"),
        (
            rewritten(lambda table: table.drop(columns="colour")),
            "{lake}/b.PARQUET has no column colour, which {lake}/a.parquet has.",
        ),
        (
            rewritten(lambda table: table.assign(weight=1)),
            "{lake}/b.PARQUET has a column weight, which {lake}/a.parquet does not have.",
        ),
        (
            rewritten(lambda table: table.assign(size="big")),
            "{lake}/b.PARQUET, column size: holds values of type string, and the files before it double; write all",
        ),
        (
            rewritten(lambda table: table.rename(columns={"size": "size "})),
            "Column 'size ' of {lake}/b.PARQUET has a name with blanks",
        ),
    ],
)
def test_folder_that_is_no_one_table_is_refused_with_file_and_column(
    reader: Callable[[DataSpec], object], spoil: Callable[[Path], object], sentence: str, lake: Path
) -> None:
    spoil(lake)

    with pytest.raises(InputError) as refused:
        reader(spec(lake))

    assert sentence.format(lake=lake) in str(refused.value)


@pytest.mark.parametrize("reader", [load, shares.whole])
def test_two_columns_of_one_name_are_named(reader: Callable[[DataSpec], object], tmp_path: Path) -> None:
    twice = pa.table([pa.array([1.0, 2.0]), pa.array([3.0, 4.0]), pa.array(["yes", "no"])], names=["x", "x", "left"])
    parquet.write_table(twice, tmp_path / "a.parquet")

    for source in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match=r"Columns 1 and 2 of .* are both called x"):
            reader(spec(source))


def test_row_of_a_folder_is_counted_through_its_files(lake: Path) -> None:
    rewritten(lambda table: table.assign(left=table["left"].where(table.index != 149)))(lake)

    with pytest.raises(InputError, match="Row 150 has no value in the target column left"):
        load(spec(lake))
