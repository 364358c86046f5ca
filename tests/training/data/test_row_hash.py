"""A row stays in its part of the split, whatever happens to the rest of the table."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from training.data.dataset import Data, DataSpec, SplitSpec, load
from training.data.row_hash import fractions, key_hashes
from training.data.split import split
from training.errors import InputError

ROWS = 2000


def customers(rows: int) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {"id": np.arange(rows), "age": draw.integers(18, 80, rows), "plan": draw.choice([*"abc"], rows)}
    )
    return table.assign(spent=draw.normal(size=rows).round(3), left=draw.choice(["yes", "no"], rows))


@pytest.fixture
def held(tmp_path: Path) -> Callable[..., set[int]]:
    """Return a function that returns the held-out customers of a table."""

    def held(table: pd.DataFrame, *key: str, spec: SplitSpec | None = None, **options: Any) -> set[int]:
        table.to_csv(tmp_path / "table.csv", index=False)
        given = {"target": "left", "drop": ("id",), "holdout_key": key} | options
        parts = split(data := load(DataSpec(source=str(tmp_path / "table.csv"), **given)), spec or SplitSpec())
        assert isinstance(data, Data)
        assert sorted([*parts.rest, *parts.holdout]) == list(range(len(table)))
        assert parts.rule == "hashed"
        return set(table["id"].iloc[parts.holdout])

    return held


@pytest.mark.parametrize("key", [("id",), ("*",), ("plan", "id")])
def test_row_stays_on_its_side_when_the_table_grows_and_is_sorted(
    held: Callable[..., set[int]], key: tuple[str]
) -> None:
    table = customers(ROWS)

    before = held(table.head(ROWS // 2), *key)
    after = held(table.sample(frac=1, random_state=0), *key)

    assert {each for each in after if each < ROWS // 2} == before
    assert len(after) == pytest.approx(0.2 * ROWS, abs=4 * (0.16 * ROWS) ** 0.5)


def test_row_stays_on_its_side_when_the_type_of_its_column_changes(held: Callable[..., set[int]]) -> None:
    table = customers(ROWS)
    later = pd.concat([table, table.tail(1).assign(id=ROWS + 0.5, age=30.5)])

    before, after = held(table, "*"), held(later, "*")

    assert {each for each in after if each < ROWS} == before


def test_rows_of_a_key_are_never_split_and_missing_keys_stay_together(held: Callable[..., set[int]]) -> None:
    table = customers(ROWS).assign(
        household=lambda each: ("h" + (each["id"] % 50).astype(str)).where(each["id"] % 7 > 0)
    )

    found = held(table, "household")

    sides = table.assign(held=table["id"].isin(found)).groupby("household", dropna=False)["held"].nunique()
    assert set(sides) == {1}


def test_seed_and_share_decide_the_side(held: Callable[..., set[int]]) -> None:
    table = customers(ROWS)

    some, more = (held(table, "id", spec=SplitSpec(holdout_share=share)) for share in (0.1, 0.3))
    other = held(table, "id", spec=SplitSpec(holdout_share=0.1, seed=1))

    assert some < more
    assert 0 < len(some & other) < len(some)


def test_groups_of_a_ranking_are_held_out_by_their_hash(held: Callable[..., set[int]]) -> None:
    table = customers(ROWS).assign(query=lambda each: each["id"] % 100)
    ranking = {"target": "age", "task": "ranking", "group": "query"}
    table["age"] %= 5

    found = held(table, "query", **ranking)

    assert len(found) % (ROWS // 100) == 0
    with pytest.raises(InputError, match="the key of a ranking must be the column of --group"):
        held(table, "id", **ranking)


def test_numbers_are_those_of_the_definition() -> None:
    """A different number would move rows between training and holdout when the software is updated."""
    table = pa.table({"b": ["x", None], "a": [1, 2]})

    found = fractions(key_hashes(table, ("a", "b")), 7)

    whole = 2**64

    def mixed(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % whole
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % whole
        return value ^ (value >> 31)

    def text(value: str) -> int:
        return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")

    def number(value: float) -> int:
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])

    for row, (a, b) in enumerate([(number(1), text("x")), (number(2), 0x9E3779B97F4A7C15)]):
        key = (mixed(a ^ text("a")) + mixed(b ^ text("b"))) % whole
        assert found[row] == (mixed(key ^ text("seed 7")) >> 11) / 2**53
    assert found.tolist() == pytest.approx(NUMBERS, abs=1e-12)


NUMBERS = [0.6030392077724468, 0.6914661270313625]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (("nobody",), r"--holdout-key \(TRAINING_HOLDOUT_KEY\): column nobody does not exist"),
        (("one",), r"the hash of one holds out 0 of 2000 rows or groups"),
    ],
)
def test_unusable_key_is_refused(held: Callable[..., set[int]], key: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        held(customers(ROWS).assign(one=1), *key)
