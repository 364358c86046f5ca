"""Harrell's concordance of survival models, as a function of how often each row occurs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics.truth import Numbers, Truth, Weighted

_Places = NDArray[np.int64]


def concordance(truth: Truth, predictions: Numbers) -> tuple[int, Weighted]:
    """Return the number of rows and their concordance: the share of correctly ordered pairs, where a tie counts half.

    A pair counts if its order is known: the event of one row is not later than the last time at which the other row
    was still without it. The concordance of all pairs takes O(n log² n) once, and then O(n log n) for each sample.

    Args:
        truth: Times with their bounds.
        predictions: Risks or times, shape (rows,).

    Source: Harrell, Lee, Mark, Multivariable prognostic models, Statistics in Medicine 15, 1996
    """
    lower = truth.target
    upper = lower if truth.upper is None else truth.upper
    scores = -predictions if truth.by_risk else predictions  # an early event has a low score
    firsts = np.flatnonzero(np.isfinite(upper))  # rows that can have the earlier event of a pair
    times = np.unique(np.concatenate([lower, upper[firsts]]))
    # An event is before all times after it, and before a row that was censored at its time.
    ends = 2 * np.searchsorted(times, lower) + (upper > lower)
    starts = 2 * np.searchsorted(times, upper[firsts])
    order = np.argsort(np.concatenate([ends, starts]), kind="stable")
    owners = np.concatenate([np.arange(len(lower)), firsts])[order]
    first = order >= len(lower)
    levels = _levels(np.unique(scores, return_inverse=True)[1][owners], first)

    def weighted(counts: Numbers) -> float:
        weights = truth.weighted(counts)[owners]
        events, others = np.where(first, weights, 0), np.where(first, 0, weights)
        pairs = float((others * np.cumsum(events)).sum())
        return sum(each.concordant(events, others) for each in levels) / pairs if pairs else np.nan

    return len(lower), weighted


@dataclass(frozen=True)
class _Level:
    """Pairs of an event in the left half of a block with another row in its right half. All rows are in time order.

    Args:
        events: Places of the events in the left halves, by block and score.
        others: Places of the other rows in the right halves.
        begin: For each of `others`, the number of events in earlier blocks.
        below: For each, that number and the events of its block with a lower score.
        equal: For each, that number and the events of its block with a lower or the same score.
    """

    events: _Places
    others: _Places
    begin: _Places
    below: _Places
    equal: _Places

    def concordant(self, events: Numbers, others: Numbers) -> float:
        """Return the weight of the correctly ordered pairs."""
        sums = np.concatenate([[0.0], np.cumsum(events[self.events])])
        earlier = (sums[self.below] + sums[self.equal]) / 2 - sums[self.begin]
        return float((others[self.others] * earlier).sum())


def _levels(scores: _Places, first: NDArray[np.bool_]) -> list[_Level]:
    """Divide the pairs into levels, so that each is in one of them: blocks of 2, 4, 8, … rows.

    Args:
        scores: Rank of the score of each row, in time order, shape (rows,).
        first: Whether the row is the event of a pair, and not the other row.
    """
    places, ranks, found = np.arange(len(scores)), int(scores.max(initial=0)) + 1, []
    for level in range(max(len(scores) - 1, 0).bit_length()):
        right = (places >> level) & 1 == 1
        keys = (places >> (level + 1)) * ranks + scores
        # In the order of the keys, so that neighbours are searched after each other.
        ordered = places[np.argsort(keys)]
        events, others = ordered[(first & ~right)[ordered]], ordered[(~first & right)[ordered]]
        wanted = keys[others]
        bounds = [
            np.searchsorted(keys[events], sought, side)  # type: ignore[call-overload] # a literal
            for sought, side in ((wanted - scores[others], "left"), (wanted, "left"), (wanted, "right"))
        ]
        found.append(_Level(events, others, *bounds))
    return found
