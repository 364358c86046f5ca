"""Answers of models of any flavor on a common scale, on which a metric compares them."""

from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args

import numpy as np

from app.model.base import Model
from app.model.contract import Task
from app.model.xgboost import BoosterModel
from training.errors import InputError
from training.metrics.catalog import metric_of
from training.metrics.truth import Numbers
from training.scoring.answers import Answers

LABEL_METRICS = ("accuracy", "f1")  # which need no probabilities
_CLASSIFIED = ("binary", "multiclass")
_CLASSES = "write its contract.json with `python -m training describe --classes`"


class ScaleError(Exception):
    """The answers of a model cannot be measured. The message is a sentence without its subject, the version."""


def task_of(models: Iterable[Model], metric: str) -> Task | None:
    """Return the task of the models: as the first one states it, or else by the metric. None: any classification.

    Raises:
        InputError: No model states its task, and the metric does not determine it.
    """
    for model in models:
        if model.contract:
            return model.contract.task
        if isinstance(model, BoosterModel):
            if model.output.task not in get_args(Task):
                raise InputError(f"{model.provenance.uri} is a {model.output.task} model, which cannot be compared.")
            return cast(Task, model.output.task)
    if not metric:
        raise InputError(
            "--metric (TRAINING_METRIC): name the metric of the comparison, because the model has no contract.json "
            "with its task."
        )
    tasks = [*metric_of(metric).tasks]
    return tasks[0] if len(tasks) == 1 else None


def classes_of(models: Sequence[Model], labels: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of a classification: those that a model names, or else all labels in ascending order."""
    return next((model.output.classes for model in models if model.output.classes), ()) or tuple(sorted(set(labels)))


def numbers_for(answers: Answers, task: Task, classes: Sequence[str], metric: str) -> Numbers:
    """Return the numbers that a metric takes, shape (rows,) or for several classes (rows, classes).

    Raises:
        ScaleError: The answers do not contain them.
    """
    output, numbers = answers.output, answers.numbers
    if task not in _CLASSIFIED:
        if output.form != "number" or numbers is None:
            raise ScaleError(f"predicts {output.form}, not one number per row")
        return numbers[:, 0].astype(np.float64)
    if output.form == "probabilities" and numbers is not None:
        if set(output.classes) != set(classes):
            raise ScaleError(f"has the classes {', '.join(output.classes)}, not {', '.join(classes)}")
        shares = np.stack([1 - numbers[:, 0], numbers[:, 0]], axis=1) if output.width == 1 else numbers
        shares = shares[:, [output.classes.index(name) for name in classes]]
    else:
        if metric not in LABEL_METRICS:
            raise ScaleError(
                f"predicts {'labels' if output.width == 1 else output.form} without named probabilities, which "
                f'{metric} needs: log it with pyfunc_predict_fn="predict_proba" and {_CLASSES}, or use '
                "--metric=accuracy"
            )
        places = {name: place for place, name in enumerate(classes)}
        labels = labels_of(answers)
        if strangers := sorted(set(labels) - places.keys()):
            raise ScaleError(f"predicts {', '.join(strangers[:10])}, which is not one of {', '.join(classes)}")
        shares = np.zeros((len(labels), len(classes)))
        shares[np.arange(len(labels)), [places[label] for label in labels]] = 1
    found: Numbers = shares.astype(np.float64)
    return found[:, 1] if task == "binary" else found


def labels_of(answers: Answers) -> list[str]:
    """Return the label that each row predicts.

    Raises:
        ScaleError: The answers are not labels.
    """
    output, numbers = answers.output, answers.numbers
    if output.form == "label":
        return answers.labels()
    if output.form == "number" and numbers is not None:
        return [label(value) for value in numbers[:, 0].tolist()]
    if output.form == "probabilities" and numbers is not None:
        return [output.classes[place] for place in output.labels(numbers)]
    raise ScaleError(f"predicts {output.width} values per row without classes: {_CLASSES}")


def label(value: Any) -> str:
    """Return the name of a class, as the service and training name it: 1.0 is 1, and True is true."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
