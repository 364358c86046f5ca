"""Compare a training with its repetition: what differs, by how much, and what that means. Pure: no MLflow in here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.compare import Numbers

Group = Literal["registry", "data", "settings", "code", "environment"]
Outcome = Literal["identical", "same predictions", "differs", "unexplained"]

# What a person does about a model that differs, for each reason.
REMEDIES: dict[Group, str] = {
    "registry": "the file in the registry is not what the run trained: find out who changed it",
    "data": "reproduce from the data as it was",
    "settings": "the run's record contradicts its parameters, which MLflow lets nobody change: find out who did",
    "code": "reproduce with the code of that commit",
    "environment": "reproduce in the image of the run",
}


@dataclass(frozen=True)
class Difference:
    """One recorded fact that is another one here; what is not known is empty."""

    group: Group
    name: str
    recorded: str
    here: str


@dataclass(frozen=True)
class Change:
    """By how much the predictions for the same held-out rows differ."""

    rows: int
    changed: int
    largest: float | None


@dataclass(frozen=True)
class Finding:
    """What the repetition has shown."""

    outcome: Outcome
    sentence: str


def differing(group: Group, recorded: Mapping[str, str], here: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the facts that are not the same."""
    for name in sorted({*recorded, *here}):
        before, now = recorded.get(name, ""), here.get(name, "")
        if before != now:
            yield Difference(group, name, before, now)


def change(recorded: Numbers, here: Numbers) -> Change:
    """Compare predictions of the same rows."""
    if recorded.shape != here.shape:  # another number of classes
        return Change(len(here), len(here), None)
    apart = np.abs(recorded - here)
    changed = apart if apart.ndim == 1 else apart.max(axis=1)
    return Change(len(here), int((changed > 0).sum()), float(changed.max(initial=0)))


def judge(*, same_bytes: bool, differences: Sequence[Difference], predictions: Change) -> Finding:
    """Say what it means, with the remedy.

    Args:
        same_bytes: the model file is the same, bit for bit.
    """
    groups: list[Group] = list(dict.fromkeys(each.group for each in differences))
    listed = " and ".join(groups)
    if same_bytes:
        also = f", with differences in the {listed}" if groups else ""
        return Finding("identical", f"the same bytes{also}")
    if predictions.changed == 0:
        about = f"; there are differences in the {listed}" if groups else ""
        return Finding("same predictions", f"other bytes, but all {predictions.rows} predictions are the same{about}")
    by = f"{predictions.changed} of {predictions.rows} predictions differ"
    if predictions.largest is not None:
        by += f", by up to {predictions.largest:.6g}"
    if not groups:
        return Finding("unexplained", f"{by}, and nothing that was recorded does: look for what is not recorded")
    remedies = "; ".join(REMEDIES[group] for group in groups)
    return Finding("differs", f"{by}, because of the {listed}: {remedies}")
