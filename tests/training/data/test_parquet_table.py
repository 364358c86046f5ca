"""A folder of Parquet files as one table: the digest is that of a single file, and differing columns are named."""

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

from training.data.dataset import DataSpec, SplitSpec, load
from training.data.split import split
from training.errors import InputError
from training.workers import shards
from training.workers.labels import read_labels


def frame(rows: int) -> pd.DataFrame:
    """Return a table with a number, a category, missing values and two classes."""
    drawn = np.random.default_rng(0)
    made = pd.DataFrame({"size": drawn.random(rows), "colour": drawn.choice(["red", "green", "blue"], rows)})
    made.loc[drawn.random(rows) < 0.2, "size"] = np.nan
    return made.assign(left=drawn.choice(["yes", "no"], rows))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Write three files with two row groups each, one of them in a subfolder, and the marker files of a writer."""
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


def test_folder_has_the_data_of_one_file_and_the_digest_of_its_listing(lake: Path) -> None:
    alone, data = load(spec(lake.with_suffix(".parquet"))), load(spec(f"{lake}/"))

    assert (data.name, len(data.target), data.sha256) == ("lake", 300, alone.sha256)
    listing = "sha256sum a.parquet b.PARQUET year=2026/a.parquet | sha256sum"
    said = subprocess.run(["bash", "-c", listing], cwd=lake, capture_output=True, text=True, check=True).stdout
    assert data.raw_sha256 == said.split()[0]
    assert load(spec(f"file://{lake}/")).raw_sha256 == data.raw_sha256
    (lake / "year=2026" / "a.parquet").rename(lake / "year=2026" / "b.parquet")
    renamed = load(spec(lake))
    assert renamed.raw_sha256 != data.raw_sha256
    assert renamed.sha256 == data.sha256, "the prepared data are the same"


def test_folder_of_a_bucket_gives_the_same_data(bucket: Path, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(lake, bucket / "lake")

    there, here = load(spec("s3://data/lake/")), load(spec(lake))

    assert (there.name, there.sha256, there.raw_sha256) == (here.name, here.sha256, here.raw_sha256)
    assert read_labels(spec("s3://data/lake")).target.tolist() == here.target.tolist()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(InputError, match=r"s3://data/lake cannot be read: .*ACCESS_DENIED"):
        load(spec("s3://data/lake"))


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_hold_out_the_same_rows_of_a_folder_as_of_a_file(workers: int, lake: Path) -> None:
    found = shards.held_out(spec(lake), SplitSpec(), workers)

    of_file = shards.held_out(spec(lake.with_suffix(".parquet")), SplitSpec(), workers)
    pd.testing.assert_frame_equal(found.frame, of_file.frame)
    assert (found.target.tolist(), found.sha256) == (of_file.target.tolist(), of_file.sha256)
    alone = load(spec(lake))
    rows = split(alone, SplitSpec()).holdout
    pd.testing.assert_frame_equal(found.frame.reset_index(drop=True), alone.frame.iloc[rows].reset_index(drop=True))


def test_files_may_store_equal_values_with_different_types(tmp_path: Path) -> None:
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
    assert len(read_labels(spec(tmp_path)).target) == 90


def emptied(lake: Path) -> None:
    shutil.rmtree(lake / "year=2026")
    for file in lake.glob("[ab].*"):
        file.unlink()


def rewritten(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Return a function that replaces the second file."""
    return lambda lake: change(frame(300)[100:200]).to_parquet(lake / "b.PARQUET")


@pytest.mark.parametrize("reader", [load, read_labels])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (emptied, "lake is a folder without a .parquet file."),
        (lambda lake: (lake / "c.csv").write_text("size\n1\n"), "is a folder with CSV ({lake}/c.csv): use one CSV"),
        (
            lambda lake: (lake / "b.PARQUET").write_text("size,left"),
            "{lake}/b.PARQUET is not a Parquet file, which folders",
        ),
        (lambda lake: (lake / "b.PARQUET").write_bytes(b""), "{lake}/b.PARQUET is not a Parquet file"),
        (
            rewritten(lambda table: table.drop(columns="colour")),
            "{lake}/b.PARQUET does not have the column colour of {lake}/a.parquet.",
        ),
        (
            rewritten(lambda table: table.assign(weight=1)),
            "{lake}/b.PARQUET has a column weight, which {lake}/a.parquet does not have.",
        ),
        (
            rewritten(lambda table: table.assign(size="big")),
            "{lake}/b.PARQUET, column size: the type is string, and double in the files before it; write all",
        ),
        (
            rewritten(lambda table: table.rename(columns={"size": "size "})),
            "Column 'size ' of {lake}/b.PARQUET has a name with leading or trailing blanks",
        ),
    ],
)
def test_inconsistent_folder_is_refused_with_file_and_column(
    reader: Callable[[DataSpec], object], spoil: Callable[[Path], object], sentence: str, lake: Path
) -> None:
    spoil(lake)

    with pytest.raises(InputError) as refused:
        reader(spec(lake))

    assert sentence.format(lake=lake) in str(refused.value)


@pytest.mark.parametrize("reader", [load, read_labels])
def test_duplicate_column_is_named(reader: Callable[[DataSpec], object], tmp_path: Path) -> None:
    twice = pa.table([pa.array([1.0, 2.0]), pa.array([3.0, 4.0]), pa.array(["yes", "no"])], names=["x", "x", "left"])
    parquet.write_table(twice, tmp_path / "a.parquet")

    for source in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match=r"Columns 1 and 2 of .* are both called x"):
            reader(spec(source))


def test_rows_are_counted_through_all_files(lake: Path) -> None:
    rewritten(lambda table: table.assign(left=table["left"].where(table.index != 149)))(lake)

    with pytest.raises(InputError, match="Row 150 has no value in the target column left"):
        load(spec(lake))
