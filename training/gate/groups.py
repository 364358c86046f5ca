"""The comparison of two models in each group of rows, such as a region."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from training.gate.bootstrap import Comparison, compare
from training.gate.promotion import Rules
from training.metrics.truth import Numbers, Truth

FEWEST_ROWS = 30  # of a group; the bounds of fewer rows exclude nothing


@dataclass(frozen=True)
class GroupComparison:
    """The comparison of two models in one group of rows."""

    name: str
    rows: int
    found: Comparison

    def sentence(self, confidence: float) -> str:
        """The finding, without a full stop."""
        found = self.found
        return (
            f"the worst group is {self.name}: {found.metric} is {found.candidate:.6g} on {self.rows} rows, the "
            f"champion has {found.champion:.6g}: a gain of {found.gain:+.6g}, at most {found.high:+.6g} with "
            f"{confidence:.0%} confidence"
        )


def worst_group(
    truth: Truth, slices: pd.DataFrame, champion: Numbers, candidate: Numbers, rules: Rules
) -> GroupComparison | None:
    """Return the group whose gain is least even by its upper bound, or None if no group has enough rows.

    Args:
        truth: True values of the held-out rows.
        slices: Groups of each row, shape (rows, columns).
        champion: Predictions of the champion, shape (rows,) or (rows, classes).
        candidate: Predictions of the candidate, likewise.
        rules: Metric and bootstrap.
    """
    return min(_compared(truth, slices, champion, candidate, rules), key=lambda each: each.found.high, default=None)


def _compared(
    truth: Truth, slices: pd.DataFrame, champion: Numbers, candidate: Numbers, rules: Rules
) -> Iterator[GroupComparison]:
    for column, groups in slices.items():
        for group in sorted(groups.unique()):
            inside: Any = (groups == group).to_numpy()
            if (rows := int(np.count_nonzero(inside))) < FEWEST_ROWS:
                continue
            try:
                found = compare(
                    rules.metric, truth.rows(inside), champion[inside], candidate[inside],
                    resamples=rules.resamples, confidence=rules.confidence, seed=rules.seed,
                )  # fmt: skip
            except ValueError:  # a single class, for example
                continue
            yield GroupComparison(f"{column}={group}", rows, found)
