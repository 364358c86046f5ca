"""Say what a booster's numbers mean: a number per row, several, or a class."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.booster import Booster, Matrix
from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError

# The objectives that do not answer plain numbers. Labels of hinge and softmax come without probabilities.
_CLASSIFIERS: dict[str, tuple[str, "Form"]] = {
    "binary:logistic": ("binary", "probabilities"),
    "binary:hinge": ("binary", "label"),
    "multi:softprob": ("multiclass", "probabilities"),
    "multi:softmax": ("multiclass", "label"),
}

Form = Literal["number", "numbers", "label", "probabilities", "record"]


@dataclass(frozen=True)
class Output:
    """What one prediction is.

    Args:
        task: binary, multiclass, regression, ranking or multilabel (several independent probabilities).
        form: of the JSON value.
        classes: their names in the order of the booster's numbers, of a classifier.
        width: numbers that the model answers per row.
        names: of these numbers, where the model has some; of a record always.
    """

    task: str
    form: Form
    classes: tuple[str, ...]
    width: int
    names: tuple[str, ...] = ()

    @property
    def measures(self) -> int:
        """How many numbers of a prediction are watched for drift."""
        return self.width if self.form == "numbers" else 1

    def measured(self, output: Matrix) -> Matrix:
        """Return what is watched of an output, shape (rows, measures): scores, values or places of classes."""
        if self.form == "probabilities" and self.task == "multiclass":
            return output.argmax(axis=1)[:, None].astype(np.float32)
        return output

    @property
    def comparable(self) -> bool:
        """Whether one label says how good a prediction was: not of records, several numbers or unnamed classes."""
        return self.form == "number" or (self.form in ("label", "probabilities") and bool(self.classes))

    def answers(self, predictions: list[Any]) -> list[float]:
        """Return the one number of each prediction that a label is compared with: score, place of a class or value."""
        if self.form == "number":
            return predictions
        if self.task == "binary" and self.form == "probabilities":
            return [prediction["probabilities"][self.classes[1]] for prediction in predictions]
        return [self.classes.index(prediction["label"]) for prediction in predictions]

    def margins(self, count: int) -> list[dict[str, str]]:
        """Say what each of a booster's margins is for: of a classifier, the class that it speaks for."""
        classes = self.classes[1:] if self.task == "binary" else self.classes
        return [{"class": name} for name in classes] or [{}] * count

    def values(self, output: NDArray[Any]) -> list[Any]:
        """Return one JSON value per row of an output of numbers, shape (rows, width); of a record there is none."""
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


def output_of(booster: Booster, width: int, contract: Contract | None) -> Output:
    """Return what the booster's objective and the contract say; without one, classes are called by their numbers.

    Raises:
        LoadError: they contradict each other.
    """
    task, form = _meaning(booster.objective, width)
    if contract and contract.task == "regression":  # whoever says so wants the numbers as they are
        return Output("regression", "number" if width == 1 else "numbers", (), width)
    if contract and contract.task != task:
        raise LoadError(
            f"{CONTRACT_FILE} says {contract.task}, but its objective is {booster.objective}",
            f"correct what training writes, or train with an objective for {contract.task}",
        )
    count = {"binary": 2, "multiclass": booster.class_count}.get(task, 0)
    classes = contract.classes if contract else tuple(str(number) for number in range(count))
    if len(classes) != count:
        raise LoadError(
            f"{CONTRACT_FILE} names {len(classes)} classes, but the booster has {count}", "correct what training writes"
        )
    return Output(task, form, classes, width)


def _meaning(objective: str, width: int) -> tuple[str, Form]:
    if objective in _CLASSIFIERS:
        task, form = _CLASSIFIERS[objective]
        return ("multilabel", "numbers") if task == "binary" and width > 1 else (task, form)
    task = "ranking" if objective.startswith("rank:") else "regression"
    return task, "number" if width == 1 else "numbers"
