"""Ten retrainings of a slowly changing table: the decisions of the gate against the truth on fresh rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from training.data.dataset import DataSpec, SplitSpec, load
from training.data.matrices import matrix
from training.data.split import split
from training.fitting.fit import fit, parameters
from training.gate.bootstrap import compare
from training.metrics.truth import Truth

pytestmark = pytest.mark.long
RETRAININGS, ROWS, FRESH = 10, 600, 20_000
POOR = 6  # retraining with far too few rounds, which must be refused
TURN = 0.03  # change of the rule from month to month
PARAMS = {"max_depth": 4, "learning_rate": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "seed": 0}


class Row(NamedTuple):
    """One retraining: the gate's estimate of the gain in RMSE with its lower bound, and the gain on fresh rows."""

    number: int
    rows: int
    gain: float
    low: float
    true_gain: float

    @property
    def promoted(self) -> bool:
        return self.low > 0

    def __str__(self) -> str:
        return f"{'promoted' if self.promoted else 'refused'} | {self.gain:+.2f} | {self.true_gain:+.2f}"


def month(number: int, rows: int, seed: int) -> pd.DataFrame:
    """Return the customers of a month. What they spend depends on a rule that turns a little each month."""
    draw = np.random.default_rng([number, seed])
    table = pd.DataFrame({"age": draw.integers(18, 80, rows), "income": draw.normal(50, 15, rows).round(1)})
    table["visits"] = draw.poisson(4, rows)
    return table.assign(spent=(spent_by(table, number) + draw.normal(0, 8, rows)).round(2))


def spent_by(table: pd.DataFrame, number: int) -> "pd.Series[float]":
    """Return what the customers spend by the rule of a month."""
    turn = number * TURN
    spent = table.income * np.cos(turn) + table.age * np.sin(turn) + 4 * table.visits * (table.income > 50)
    return pd.Series(spent)


def grown(number: int) -> pd.DataFrame:
    """Return the customers of all months up to this one."""
    return pd.concat([month(each, ROWS, 0) for each in range(number + 1)])


def updated(number: int) -> pd.DataFrame:
    """Return the same customers each month, with a slightly different income and one month more as a customer."""
    table = month(0, 5 * ROWS, 0).assign(id=np.arange(5 * ROWS))
    own = table["spent"] - spent_by(table, 0)  # what a customer spends for reasons of his own, whatever the month
    draw = np.random.default_rng([number, 2])
    table["income"] = (table["income"] + draw.normal(0, 0.2, len(table))).round(1)
    return table.assign(spent=(spent_by(table, number) + own).round(2), months=number)


def retrained(file: Path, key: tuple[str, ...], tables: Callable[[int], pd.DataFrame] = grown) -> Iterator[Row]:
    """Train and judge a model each month, on the table of the month in another order.

    Without a key, both models predict the candidate's held-out rows, as with --no-same-holdout.
    """
    champion = None
    for number in range(RETRAININGS + 1):
        table = tables(number).sample(frac=1, random_state=number)
        table.to_csv(file, index=False)
        drop = tuple({"id", "months"} & {*table})
        data = load(DataSpec(source=str(file), target="spent", holdout_key=key, drop=drop))
        parts = split(data, SplitSpec())
        model = fit(data, parts.rest, parameters(data, PARAMS), 20 if number == POOR else 100, 1).booster
        if champion is None:
            champion = model
            continue
        held, truth = matrix(data, parts.holdout, 1), Truth(data.target[parts.holdout].astype(np.float64))
        old, new = (each.predict(held).astype(np.float64) for each in (champion, model))
        found = compare("rmse", truth, old, new, resamples=1000, confidence=0.95, seed=0)
        true_gain = rmse(champion, number) - rmse(model, number)
        yield Row(number, len(table), found.gain, found.low, true_gain)
        champion = model if found.low > 0 else champion


def rmse(model: xgb.Booster, number: int) -> float:
    """Return the error on many new rows of the month, which no table contains."""
    fresh = month(number, FRESH, 1)
    predictions = model.inplace_predict(fresh.drop(columns="spent").to_numpy(np.float32), validate_features=False)
    return float(np.sqrt(np.mean((predictions - fresh["spent"]) ** 2)))


def test_gate_decides_ten_retrainings_as_fresh_rows_would(tmp_path: Path) -> None:
    hashed = list(retrained(tmp_path / "table.csv", ("*",)))
    drawn = list(retrained(tmp_path / "table.csv", ()))

    for a, b in zip(hashed, drawn, strict=True):
        print(f"| {a.number} | {a.rows} | {a} | {b} |")
    assert all(each.true_gain > 0 for each in hashed if each.promoted), "never a worse model"
    assert not hashed[POOR - 1].promoted
    assert hashed[POOR - 1].true_gain < 0
    assert sum(each.promoted for each in hashed) >= 6
    assert max(each.true_gain for each in hashed if not each.promoted) < 0.5, "only small gains are missed"
    assert max(each.true_gain for each in drawn if not each.promoted) > 1, "the champion has seen most of those rows"


def test_hash_of_the_whole_row_is_unfair_if_rows_are_updated(tmp_path: Path) -> None:
    """The reason why `*` is not the default: the champion was trained on earlier states of the held-out customers."""
    whole = list(retrained(tmp_path / "table.csv", ("*",), updated))
    customer = list(retrained(tmp_path / "table.csv", ("id",), updated))

    for a, b in zip(whole, customer, strict=True):
        print(f"| {a.number} | {a} | {b} |")
    assert all(each.true_gain > 0 for each in customer if each.promoted), "never a worse model"
    missed = [max(each.true_gain for each in rows if not each.promoted) for rows in (whole, customer)]
    assert missed[0] > missed[1] + 0.5, "better models are refused"
