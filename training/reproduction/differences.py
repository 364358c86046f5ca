"""Differences between a training and its repetition, with their explanation. This module does not import MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.metrics.truth import Numbers

Group = Literal["registry", "data", "settings", "code", "environment"]
Outcome = Literal["identical", "same predictions", "differs", "unexplained"]

# Remedy for each kind of difference.
REMEDIES: dict[Group, str] = {
    "registry": "the file in the registry is not the one that the run trained: find out who changed it",
    "data": "reproduce with the original data",
    "settings": "the manifest contradicts the run's parameters, which cannot be changed in MLflow: find out who did",
    "code": "reproduce with the code of the recorded commit",
    "environment": "reproduce in the image of the run",
}


@dataclass(frozen=True)
class Difference:
    """A recorded fact that differs here. Unknown values are empty."""

    group: Group
    name: str
    recorded: str
    here: str


@dataclass(frozen=True)
class Change:
    """The difference between predictions for the same held-out rows."""

    rows: int
    changed: int
    largest: float | None


@dataclass(frozen=True)
class Finding:
    """The outcome of a repetition."""

    outcome: Outcome
    sentence: str


def differing(group: Group, recorded: Mapping[str, str], here: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the facts that differ."""
    for name in sorted({*recorded, *here}):
        before, now = recorded.get(name, ""), here.get(name, "")
        if before != now:
            yield Difference(group, name, before, now)


def change(recorded: Numbers, here: Numbers) -> Change:
    """Compare predictions of the same rows."""
    if recorded.shape != here.shape:  # the number of classes differs
        return Change(len(here), len(here), None)
    apart = np.abs(recorded - here)
    changed = apart if apart.ndim == 1 else apart.max(axis=1)
    return Change(len(here), int((changed > 0).sum()), float(changed.max(initial=0)))


def judge(*, same_bytes: bool, differences: Sequence[Difference], predictions: Change) -> Finding:
    """Explain a repetition, with the remedy.

    Args:
        same_bytes: The model files are identical, and so are the calibrations.
        differences: Facts that differ.
        predictions: The difference between the predictions.
    """
    groups: list[Group] = list(dict.fromkeys(each.group for each in differences))
    listed = " and ".join(groups)
    if same_bytes:
        also = f", with differences in the {listed}" if groups else ""
        return Finding("identical", f"the model files are identical{also}")
    if predictions.changed == 0:
        about = f", with differences in the {listed}" if groups else ""
        return Finding(
            "same predictions", f"the model files differ, but all {predictions.rows} predictions are the same{about}"
        )
    by = f"{predictions.changed} of {predictions.rows} predictions differ"
    if predictions.largest is not None:
        by += f", by up to {predictions.largest:.6g}"
    if not groups:
        return Finding("unexplained", f"{by}, but no recorded fact does: look for a difference that is not recorded")
    remedies = "; ".join(REMEDIES[group] for group in groups)
    return Finding("differs", f"{by}, because of the {listed}: {remedies}")
