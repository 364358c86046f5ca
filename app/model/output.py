"""Meaning of a model's numbers: one number per row, several numbers, or a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import LoadError
from app.model.booster import Booster, Matrix
from app.model.contract import CONTRACT_FILE, Contract

# Task and form of the objectives for classes. hinge and softmax predict labels without probabilities.
_CLASSIFIERS: dict[str, tuple[str, "Form"]] = {
    "binary:logistic": ("binary", "probabilities"),
    "binary:hinge": ("binary", "label"),
    "multi:softprob": ("multiclass", "probabilities"),
    "multi:softmax": ("multiclass", "label"),
}

Form = Literal["number", "numbers", "label", "probabilities", "record"]


@dataclass(frozen=True)
class Output:
    """Form and meaning of a prediction.

    Args:
        task: binary, multiclass, regression, ranking, survival_risk, survival_time, or multilabel (several independent
            probabilities).
        form: Form of the JSON value.
        classes: Class names of a classifier, in the order of the booster's numbers.
        width: Number of values that the model predicts per row.
        names: Names of these values; always present for records.
    """

    task: str
    form: Form
    classes: tuple[str, ...]
    width: int
    names: tuple[str, ...] = ()

    @property
    def measures(self) -> int:
        """Number of values of a prediction that are monitored for drift."""
        return self.width if self.form == "numbers" else 1

    def measured(self, output: Matrix) -> Matrix:
        """Return the monitored values, shape (rows, measures): scores, numbers or class indices."""
        if self.form == "probabilities" and self.task == "multiclass":
            return output.argmax(axis=1)[:, None].astype(np.float32)
        return output

    @property
    def comparable(self) -> bool:
        """Whether a prediction can be compared with a label.

        False for records, several numbers and unnamed classes, and for survival models, because a label does not
        contain whether the event was observed.
        """
        if self.task.startswith("survival"):
            return False
        return self.form == "number" or (self.form in ("label", "probabilities") and bool(self.classes))

    def labels(self, output: Matrix) -> list[int]:
        """Return the index of the class that each row of a booster's numbers predicts."""
        if self.form == "label":
            return [int(number) for number in output[:, 0].tolist()]
        if self.task == "binary" and self.width == 1:
            return list((output[:, 0] > 1 - output[:, 0]).astype(int).tolist())
        return list(output.argmax(axis=1).tolist())

    def answers(self, predictions: list[Any]) -> list[float]:
        """Return the number of each prediction that is compared with its label: score, class index or value."""
        if self.form == "number":
            return predictions
        if self.task == "binary" and self.form == "probabilities":
            return [prediction["probabilities"][self.classes[1]] for prediction in predictions]
        return [self.classes.index(prediction["label"]) for prediction in predictions]

    def numbers_of(self, output: Matrix) -> list[float]:
        """Return what `answers` returns, from a booster's numbers of this form."""
        if self.form == "number":
            return list(output[:, 0].tolist())
        if self.task == "binary" and self.form == "probabilities":
            return list(output[:, -1].tolist())
        return [float(label) for label in self.labels(output)]

    def margins(self, count: int) -> list[dict[str, str]]:
        """Return a description of each margin of a booster, which is its class for classifiers."""
        classes = self.classes[1:] if self.task == "binary" else self.classes
        return [{"class": name} for name in classes] or [{}] * count

    def values(self, output: NDArray[Any]) -> list[Any]:
        """Return one JSON value per row of a numeric output, shape (rows, width). Records are not supported."""
        if self.form == "number":
            return list(output[:, 0].tolist())
        if self.form == "numbers":
            return list(output.tolist())
        classes = self.classes
        if self.form == "label":
            return [{"label": classes[int(number)]} for number in output[:, 0].tolist()]
        if self.task == "binary" and self.width == 1:
            no, yes = classes
            shares = output[:, 0]
            both = zip((1 - shares).tolist(), shares.tolist(), strict=True)
            return [{"label": yes if b > a else no, "probabilities": {no: a, yes: b}} for a, b in both]
        return [
            {"label": classes[label], "probabilities": dict(zip(classes, row, strict=True))}
            for label, row in zip(output.argmax(axis=1).tolist(), output.tolist(), strict=True)
        ]


class Challenged(NamedTuple):
    """A challenger's numbers for the rows of one call.

    Args:
        version: Version of the challenger.
        edges: Bounds of its score bins.
        numbers: Its numbers, shape (rows, outputs); not finite where it failed.
    """

    version: str
    edges: Sequence[float]
    numbers: Matrix


class Predictions:
    """The predictions of one call, in the order of its rows.

    Args:
        output: Form and meaning of a prediction.
        numbers: The numbers of a booster, shape (rows, outputs); None for models that return other values.
        values: One JSON value per row, for models without numbers.
        challenged: Predictions of a challenger, if labels are to be scored for it too.

    Attributes:
        tokens: Token of each row, if the response contains them.
    """

    __slots__ = ("_values", "challenged", "numbers", "output", "tokens")

    def __init__(
        self,
        output: Output,
        numbers: Matrix | None,
        values: list[Any] | None = None,
        challenged: Challenged | None = None,
    ) -> None:
        self.output, self.numbers, self._values, self.challenged = output, numbers, values, challenged
        self.tokens: list[str] = []

    def __len__(self) -> int:
        return len(self.values if self.numbers is None else self.numbers)

    def __getitem__(self, rows: slice) -> "Predictions":
        if self.numbers is None:
            return Predictions(self.output, None, self.values[rows])
        other = self.challenged
        part = other and other._replace(numbers=other.numbers[rows])
        return Predictions(self.output, self.numbers[rows], challenged=part)

    @property
    def values(self) -> list[Any]:
        """One JSON value per row. They are made only when a response or a log needs them."""
        if self._values is None:
            self._values = [] if self.numbers is None else self.output.values(self.numbers)
        return self._values


def output_of(booster: Booster, width: int, contract: Contract | None) -> Output:
    """Return the output by the booster's objective and the contract. Without a contract, classes are named "0", "1", ….

    Raises:
        LoadError: The objective and the contract contradict each other.
    """
    task, form = _meaning(booster.objective, width)
    if contract and contract.task == "regression":  # any objective may be served as plain numbers
        return Output("regression", "number" if width == 1 else "numbers", (), width)
    if contract and contract.task != task:
        raise LoadError(
            f"{CONTRACT_FILE} has the task {contract.task}, but the objective is {booster.objective}",
            f"correct what training writes, or train with an objective for {contract.task}",
        )
    count = {"binary": 2, "multiclass": booster.class_count}.get(task, 0)
    classes = contract.classes if contract else tuple(str(number) for number in range(count))
    if len(classes) != count:
        raise LoadError(
            f"{CONTRACT_FILE} has {len(classes)} classes, but the booster has {count}", "correct what training writes"
        )
    return Output(task, form, classes, width)


def _meaning(objective: str, width: int) -> tuple[str, Form]:
    if objective in _CLASSIFIERS:
        task, form = _CLASSIFIERS[objective]
        return ("multilabel", "numbers") if task == "binary" and width > 1 else (task, form)
    survival = {"survival:cox": "survival_risk", "survival:aft": "survival_time"}
    task = "ranking" if objective.startswith("rank:") else survival.get(objective, "regression")
    return task, "number" if width == 1 else "numbers"
