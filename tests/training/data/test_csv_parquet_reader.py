"""The reader of CSV and Parquet files: formats, digests, and the CSV options of training and scoring."""

import gzip
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from training.data.csv_parquet_reader import CsvOptions, TableFile
from training.data.storage import place

CSV = "x,y\n1,None\n2,#N/A\n3,NA\n"
WHOLE = CsvOptions(("NA",), null_text=True, newlines_in_values=True)
TABLE = pa.table({"x": [1, 2, 3], "y": ["None", "#N/A", "NA"]})


def saved(path: Path, content: bytes) -> TableFile:
    path.write_bytes(content)
    return TableFile.by_content(place(str(path)))


@pytest.mark.parametrize(
    ("words", "null_text", "expected"),
    [
        (("None", "NA"), True, [None, "#N/A", None]),
        (("#N/A",), True, ["None", None, "NA"]),
        (("None", "NA"), False, ["None", "#N/A", "NA"]),
    ],
)
def test_null_words_depend_on_the_options(
    words: tuple[str, ...], null_text: bool, expected: list[str | None], tmp_path: Path
) -> None:
    options = CsvOptions(words, null_text=null_text, newlines_in_values=False)
    file = saved(tmp_path / "a.csv", CSV.encode())

    with file.csv_batches(options, {"x": pa.float64(), "y": pa.string()}) as reader:
        streamed = reader.read_all()

    assert file.table(options)["y"].to_pylist() == expected
    assert streamed["y"].to_pylist() == expected
    assert streamed["x"].to_pylist() == [1.0, 2.0, 3.0]


def test_type_of_a_column_fits_all_rows(tmp_path: Path) -> None:
    rows = "\n".join(["x", *["1"] * 300_000, "2.5"])

    table = saved(tmp_path / "a.csv", rows.encode()).table(WHOLE)

    assert table.schema.field("x").type == pa.float64()
    assert table["x"][-1].as_py() == 2.5


def test_content_decides_the_format_of_a_file_without_a_known_name(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "source")
    zipped = saved(tmp_path / "zipped", gzip.compress(CSV.encode()))
    columnar = saved(tmp_path / "columnar", (tmp_path / "source").read_bytes())

    assert (zipped.codec, zipped.is_parquet) == ("gzip", False)
    assert zipped.table(WHOLE).num_rows == 3
    assert columnar.is_parquet
    assert columnar.table(WHOLE).equals(TABLE)


@pytest.mark.parametrize(("suffix", "codec"), [(".gz", "gzip"), (".bz2", "bz2"), (".zst", "zstd")])
def test_compressed_file_is_read_by_content_and_by_name(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    with pa.output_stream(str(path), compression=codec) as stream:
        stream.write(CSV.encode())
    (named,) = (TableFile.by_name(place(str(path)), each) for each in place(str(path)).files())

    content = TableFile.by_content(place(str(path)))

    assert content == named
    assert content.table(WHOLE).num_rows == 3


def test_name_decides_the_format_of_a_file_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.csv", "b.CSV.gz", "c.Parquet", "d.txt"):
        (tmp_path / name).touch()

    where = place(str(tmp_path))
    found = [TableFile.by_name(where, each) for each in where.files(".csv", ".csv.gz", ".parquet")]

    assert [(each.codec, each.is_parquet) for each in found] == [(None, False), ("gzip", False), (None, True)]


def test_digest_is_that_of_the_bytes_and_reports_its_progress(tmp_path: Path) -> None:
    content = b"x\n" + b"1\n" * 1_000_000
    read: list[int] = []

    digest = saved(tmp_path / "a.csv", content).sha256(read.append)

    assert digest == hashlib.sha256(content).hexdigest()
    assert sum(read) == len(content)
    assert len(read) > 1
